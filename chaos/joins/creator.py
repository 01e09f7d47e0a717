"""A creator: `python -m chaos.joins.creator FIRST STEP PLAN CALM [PROGRAM]` submits every STEP-th workflow from number FIRST
on, each in a process of its own, of which some kill themselves in the middle of it. PLAN is for `plan_of`; PROGRAM is that of
Go which does it.

What a dead one has left is submitted again, or not. Whoever lives may cancel the workflow, or send its signals.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from delayed.errors import Duplicate
from delayed.queue.queue import Queue
from delayed.workflow import Flow

from ..notes import note
from .graphs import QUEUE, Plan
from .kinds import SUBMITTED, SUBMITTING
from .program import Suicide
from .recorder import Recorder

PATIENCE = 5.0  # seconds after which a workflow is removed of which no further page has come
_DYING = 0.25  # share of the submits
_SHARES = (0.1, 0.4, 0.9)  # of the packets that one of them dies at: most workflows are one packet, and a join
_LATER = 3  # exit status of one that has to come again
_DEPTH = 20_000  # tasks that wait, at most


def plan_of(words: str) -> Plan:
    """What the arguments say: graphs, seed, 1 for Go, most nodes, and the sizes of the groups."""
    graphs, seed, go, most, *groups = map(int, words.split(","))
    return Plan(graphs, groups, seed, go=bool(go), most=most)


def _submit(plan: Plan, number: int, calm: str, dying: bool) -> None:
    rng = random.Random()
    queue = Queue(QUEUE, os.environ["DELAYED_REDIS_URL"])
    built = plan.build(number, queue)
    assert isinstance(built.flow, Flow)
    built.flow.patience = PATIENCE
    note(SUBMITTING, built.spec.first)
    if dying:
        Suicide(rng.choice(_SHARES), calm, b"", 0.0).install()
    run = built.flow.submit()
    if run.status().state == "building":  # of somebody who died: it will be removed, and then there is room for another
        os._exit(_LATER)
    note(SUBMITTED, built.spec.first)
    for name in built.spec.signals:
        if rng.random() < 0.5:
            run.signal(name, number)
    if built.spec.cancelled:
        time.sleep(rng.uniform(0, 0.5))
        run.cancel()


def _in_a_fork(plan: Plan, number: int, calm: str, dying: bool) -> bool:
    """Whether it has been submitted."""
    child = os.fork()
    if not child:
        status = 1
        try:
            _submit(plan, number, calm, dying)
            status = 0
        except Duplicate:
            status = 0
        finally:
            sys.stdout.flush()
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) not in (0, _LATER):
        raise RuntimeError(f"a submit of {number} failed")
    return status == 0


def _in_go(plan: Plan, number: int, program: str, dying: bool) -> bool:
    """Likewise, by a program in Go."""
    built = plan.build(number, record=True)
    assert isinstance(built.flow, Recorder)
    spec = built.spec
    asked = built.flow.recorded(QUEUE, spec.first, sorted(spec.signals), cancelled=spec.cancelled)
    address = os.environ["DELAYED_REDIS_URL"].removeprefix("redis://").partition("/")[0]
    share = random.choice(_SHARES) if dying else 0
    command = [program, f"-redis={address}", f"-dying={share}", f"-patience={PATIENCE:g}s"]
    done = subprocess.run(command, input=json.dumps(asked), text=True, stdout=subprocess.DEVNULL, check=False)
    if done.returncode not in (0, _LATER, -signal.SIGKILL):
        raise RuntimeError(f"a submit of {number} failed")
    return done.returncode == 0


def _save(path: Path, count: int) -> None:
    """All or nothing: a file that a kill has left empty would keep all that come after from beginning."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(str(count))
    new.replace(path)


def main() -> None:
    """Until all are submitted; then it waits to be stopped."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    first, step, words, calm, *program = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
    plan, done = plan_of(words), Path(f"{calm}.{first}")
    queue, rng = Queue(QUEUE, os.environ["DELAYED_REDIS_URL"]), random.Random()
    number = first + step * int(done.read_text() if done.exists() else 0)
    while number < plan.total:
        while queue.len() > _DEPTH:
            time.sleep(0.01)
        dying = rng.random() < _DYING and not Path(calm).exists()
        submitted = _in_go(plan, number, program[0], dying) if program else _in_a_fork(plan, number, calm, dying)
        if submitted or (not plan.is_large(number) and rng.random() < 0.3):
            number += step
            _save(done, (number - first) // step)
        elif plan.is_large(number):
            time.sleep(0.5)
    while True:  # until it is stopped
        time.sleep(1)


if __name__ == "__main__":
    main()
