"""Tests a worker or a producer that is given as a command line: `scripts/conformance`, docs/protocol.md, section 9."""

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import redis

from tests.support.servers import open_redis

from .agents import Agent
from .checks import Failed
from .producer_checks import CHECKS as PRODUCER_CHECKS
from .text_checks import run as run_text
from .worker_checks import CHECKS as WORKER_CHECKS


def agent_of(command: str, language: str) -> Agent:
    """The program under test."""
    return Agent(command, tuple(shlex.split(command)), language, True, dict(os.environ), ())


def verdict(check: Callable[..., None], agent: Agent, client: redis.Redis, url: str, log: Path) -> str | None:
    """What is wrong; None if nothing is."""
    try:
        check(agent, client, url, log)
    except (Failed, RuntimeError) as error:
        return str(error)
    finally:
        client.flushall()  # the server is ours alone
    return None


def run(command: str, language: str, *, worker: bool) -> int:
    """Run all checks; how many failed."""
    checks = WORKER_CHECKS if worker else PRODUCER_CHECKS
    agent = agent_of(command, language)
    failed = 0
    own = open_redis()
    with tempfile.TemporaryDirectory() as folder, own as server, server.client() as client:
        log = Path(folder) / "log"
        for check in checks:
            if language not in getattr(check, "languages", (language,)):
                continue
            log.write_bytes(b"")
            wrong = verdict(check, agent, client, server.url, log)
            print(f"{'FAILED' if wrong else 'ok    '} {(check.__doc__ or '').strip()}", flush=True)
            if wrong:
                failed += 1
                said = log.read_text(errors="replace")[-1500:].strip()
                print(f"       {wrong}" + (f"\n       the program said:\n{said}" if said else ""), flush=True)
    print(f"{failed} of the checks failed" if failed else "all checks ok")
    return failed


def main(arguments: list[str] | None = None) -> int:
    """See `scripts/conformance --help`."""
    parser = argparse.ArgumentParser(prog="scripts/conformance", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--worker", metavar="COMMAND", help="a worker; the queue's name is added to the command line")
    which.add_argument("--text", metavar="HOST:PORT", help="a server of the text protocol that runs: docs/text-protocol.md")
    parser.add_argument("--token", help="what such a server wants to see")
    which.add_argument("--producer", metavar="COMMAND", help="a producer; it reads orders from standard input")
    parser.add_argument("--language", choices=("python", "go"), default="python", help="of the tasks (default: python)")
    options = parser.parse_args(arguments)
    if options.text:
        host, _, port = options.text.rpartition(":")
        return 1 if run_text((host.strip("[]"), int(port)), options.token) else 0
    return 1 if run(options.worker or options.producer, options.language, worker=bool(options.worker)) else 0


if __name__ == "__main__":
    sys.exit(main())
