import fs from 'node:fs';
import net from 'node:net';
import { createRequire } from 'node:module';

const { FlowProducer, Worker } = createRequire(`${process.cwd()}/`)('bullmq');
const address = new URL(process.env.JOINS_REDIS);
const connection = {
  host: address.hostname, port: Number(address.port), db: Number(address.pathname.slice(1) || 0), maxRetriesPerRequest: null,
};
const dieAt = Number(process.env.JOINS_DIE_AT ?? 0);
const which = Number(process.env.JOINS_MEMBER ?? 2);
let sent = -1;
const note = (words) => fs.appendFileSync(process.env.JOINS_NOTES, `${words} ${process.hrtime.bigint()} ${process.pid}\n`);
const write = net.Socket.prototype.write;
net.Socket.prototype.write = function counted(...args) {
  if (sent >= 0 && this.remotePort === connection.port) {
    sent += 1;
    if (sent === dieAt) {
      note('killed 0');
      process.kill(process.pid, 'SIGKILL');
    }
  }
  return write.apply(this, args);
};
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

if (process.argv[2] === 'fill') {
  const flow = new FlowProducer({ connection });
  const children = [0, 1, 2].map((n) => ({ name: 'member', queueName: 'last', data: n }));
  await flow.add({ name: 'callback', queueName: 'last', data: -1, children });
  await flow.close();
} else {
  const run = async (job) => {
    if (job.name === 'callback') {
      note(`callback ${sent}`);
      sent = -1;
      return;
    }
    note(`begin ${job.data}`);
    await sleep(job.data ? 50 : 10);
    note(`end ${job.data}`);
    if (job.data === which) sent = 0;
  };
  new Worker('last', run, { connection, concurrency: 1, lockDuration: 2000, stalledInterval: 1000, maxStalledCount: 10 });
}
