"""The decoder under atheris, which prefers payloads that reach new lines. Options are those of libFuzzer."""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["delayed.task.task", "delayed.ops.info", "msgpack.fallback"]):
    from .checks import check
    from .payloads import corpus


def main() -> None:
    """Fuzz until an error, or as long as the options say."""
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(set(corpus())):
            (Path(folder) / str(number)).write_bytes(data)
        atheris.Setup([sys.argv[0], folder, "-timeout=10", "-rss_limit_mb=1024", *sys.argv[1:]], check_one)
        atheris.Fuzz()


def check_one(data: bytes) -> None:
    """One payload."""
    check(data)


if __name__ == "__main__":
    main()
