// bullmq: `fill <tasks>`; `work <concurrency>`. Completed jobs are removed.
import fs from 'node:fs';
import { createRequire } from 'node:module';

const { Queue, Worker } = createRequire(`${process.cwd()}/`)('bullmq'); // it is installed in the directory we are started in

const address = new URL(process.env.BENCH_REDIS);
const connection = { host: address.hostname, port: Number(address.port), maxRetriesPerRequest: null };
const [command, number] = process.argv.slice(2);
if (command === 'fill') {
  const queue = new Queue('bench', { connection });
  for (let first = 0; first < Number(number); first += 500) {
    const jobs = [];
    for (let i = first; i < Math.min(first + 500, Number(number)); i++) {
      jobs.push({ name: 'mark', data: i, opts: { removeOnComplete: true, removeOnFail: true } });
    }
    await queue.addBulk(jobs);
  }
  await queue.close();
} else {
  const file = fs.openSync(process.env.BENCH_MARKS, 'r+');
  const counts = new Uint8Array(fs.fstatSync(file).size); // Node has no mmap: the byte is written instead
  const mark = async (job) => {
    counts[job.data] += 1;
    fs.writeSync(file, counts, job.data, 1, job.data);
  };
  new Worker('bench', mark, { connection, concurrency: Number(number) });
}
