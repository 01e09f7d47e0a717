"""Run by scripts/release in an environment that has nothing but the package: is it whole? `_smoke.py URL VERSION`."""

import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import delayed
from delayed import PyTask, Queue

url, wanted = sys.argv[1:]
command = [str(Path(sys.executable).parent / "delayed")]
assert delayed.__version__ == version("delayedq") == wanted, (delayed.__version__, version("delayedq"), wanted)
assert Path(delayed.__file__).is_relative_to(sys.prefix), f"another copy was imported: {delayed.__file__}"
assert (Path(delayed.__file__).parent / "py.typed").exists(), "without py.typed nobody sees the types"
assert subprocess.check_output([*command, "--version"], text=True).strip().endswith(wanted)

queue = Queue("smoke", url)
handle = queue.enqueue(PyTask("posixpath:join", ("a", "b"), result_ttl=60))
queue.enqueue(PyTask("posixpath:join", (1,)))  # it fails, so it becomes a dead letter
with tempfile.TemporaryDirectory() as elsewhere:
    worker = [*command, "worker", "smoke", "--allow", "posixpath:join", "--burst", "--redis", url]
    subprocess.run(worker, cwd=elsewhere, check=True, stderr=subprocess.DEVNULL)
    for words in ("dead purge smoke --all", "fsck smoke --at-rest"):
        subprocess.run([*command, *words.split(), "--redis", url], cwd=elsewhere, check=True, capture_output=True)
assert handle.result(timeout=10) == "a/b"
