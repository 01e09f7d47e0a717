"""What contributors are told, and the scripts that they use."""

import datetime
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import ROOT
from tests.unit.test_layers import WINGS

from .test_documents import blocks
from .test_documents import test_links_lead_to_files_and_headings_that_exist as links_lead_somewhere

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
TESTS = (ROOT / "tests" / "README.md").read_text()
INTERNALS = (ROOT / "docs" / "internals.md").read_text()
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
MORE = [ROOT / "CONTRIBUTING.md", ROOT / "tests" / "README.md", ROOT / "examples" / "README.md", *DECISIONS]
SCRIPTS = sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file() and os.access(path, os.X_OK))


@pytest.mark.parametrize("document", MORE, ids=lambda document: document.stem)
def test_links_lead_somewhere(document: Path) -> None:
    links_lead_somewhere(document)


# The documents


def test_every_decision_is_in_the_list_and_fits_on_a_page() -> None:
    listed = re.findall(
        r"^\| \[Why [^\]]*\?\]\(([\w-]+\.md)\) \|", (ROOT / "docs/decisions/README.md").read_text(), re.MULTILINE
    )
    assert sorted(listed) == [path.name for path in DECISIONS if path.name != "README.md"]
    for path in DECISIONS:
        text = path.read_text()
        assert len(text.splitlines()) <= 40, f"{path.name} is longer than a page"
        assert path.name == "README.md" or "**Decision.**" in text
        assert path.name == "README.md" or "**What it costs.**" in text


def test_the_glossary_explains_each_word_once() -> None:
    words = re.findall(r"^\| ([^|`]+?) \| [^`|]", GLOSSARY.partition("## The same things")[0], re.MULTILINE)
    assert len(words) > 40
    twice = {word for word in words if words.count(word) > 1}
    assert twice <= {"word", "---"}


def test_the_glossary_names_what_python_and_go_have() -> None:
    table = GLOSSARY.partition("## The same things in Python and Go")[2].partition("## ")[0]
    python = "\n".join(path.read_text() for path in (ROOT / "delayed").rglob("*.py"))
    go = "\n".join(path.read_text() for path in (ROOT / "interop").rglob("*.go") if "_test" not in path.name)
    rows = re.findall(r"^\| [^|]+ \| (`[^|]+) \| (`[^|]+) \|", table, re.MULTILINE)
    assert len(rows) > 10
    for ours, theirs in rows:
        for name in re.findall(r"\w+", ours):
            assert re.search(rf"^(class|def) {name}\b", python, re.MULTILINE), name
        for name in re.findall(r"\w+", theirs):
            assert re.search(rf"^(type|func) {name}\b", go, re.MULTILINE), name


def _missing_files(*roots: str) -> list[str]:
    """The paths below `roots` that the documents name, where nothing is."""
    texts = [path.read_text() for path in [*MORE, ROOT / "docs" / "internals.md"] if path.parent.name != "tests"]
    named = {path for text in texts for path in re.findall(r"`((?:[\w.-]+/)+[\w.*-]*)`", text)}
    for python, go in re.findall(
        r"^\| [^|]+ \| `(\S+)` \| `(\S+)` \|", GLOSSARY.partition("## The same things inside")[2], re.MULTILINE
    ):
        named |= {f"delayed/{python}", f"interop/{go}"}
    return sorted(path for path in named if path.startswith(roots) and not list(ROOT.glob(path)))


@pytest.mark.parametrize(
    "root",
    ["lua/", "scripts/", "docs/", "delayed/", "interop/"],
)
def test_the_documents_name_files_that_exist(root: str) -> None:
    assert not _missing_files(root)


def test_the_wings_are_those_that_imports_follow() -> None:
    table = INTERNALS.partition("| wing | what it has |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == WINGS


def test_each_test_is_where_the_table_says() -> None:
    tests = ROOT / "tests"
    kinds = re.findall(r"^\| `(\w+)/` \|", TESTS, re.MULTILINE)
    assert set(kinds) == {path.name for path in tests.iterdir() if path.is_dir() and path.name != "__pycache__"}
    named = re.findall(r"`((?:unit|redis|process|across|documents)/(?:\w+/)?test_\w+\.py)`", TESTS)
    assert len(named) > 30
    assert all((tests / path).exists() for path in named)


def _commands() -> list[list[str]]:
    """The commands in the documents for contributors that begin with a script of ours."""
    lines = [line for text in (CONTRIBUTING, TESTS) for block in blocks(text, "bash") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines]


def test_the_commands_are_scripts_with_such_options() -> None:
    assert len(_commands()) > 10
    for program, *words in _commands():
        source = (ROOT / program).read_text()
        for option in words:
            if option.startswith("--") and option != "--quick":
                assert option in source, f"{program} {option}"


def test_the_tests_in_the_commands_exist() -> None:
    for command in _commands():
        for path in (word for word in command if word.startswith("tests/")):
            assert list(ROOT.glob(path)), path
    table = re.findall(r"`scripts/test (tests/[^`]+)`", TESTS)
    assert all(list(ROOT.glob(path)) for paths in table for path in paths.split())


def test_ci_does_what_is_said() -> None:
    run = (ROOT / ".ci" / "run").read_text()
    said = re.findall(r"^\| `(scripts/[^`]+)` \|", CONTRIBUTING.partition("## What CI does")[2], re.MULTILINE)
    assert said == re.findall(r"^(scripts/.*)$", run, re.MULTILINE)


def test_the_hooks_of_pre_commit_are_ours() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    (local,) = config["repos"]
    assert local["repo"] == "local"
    for hook in local["hooks"]:
        assert hook["language"] == "system"
        assert (ROOT / hook["entry"].split()[0]) in SCRIPTS
        assert all((ROOT / word).exists() for word in hook["entry"].split() if word.startswith("tests/"))


# The scripts


def test_help_says_a_sentence_about_each_script() -> None:
    said = subprocess.check_output([ROOT / "scripts" / "help"], text=True).splitlines()[:-1]
    assert [line.split()[0] for line in said] == [f"scripts/{path.name}" for path in SCRIPTS]
    for line in said:
        sentence = line.split(maxsplit=1)[1]
        assert re.fullmatch(r"[A-Z].{10,100}\.", sentence), line


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the scripts need, with tools that only note how they are called, but for Python, ruff and coverage."""
    for name in ("delayed", "lua", "scripts", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "go.mod", ".gitignore"):
        shutil.copy(ROOT / name, tmp_path)
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    checksum, size, *_ = subprocess.check_output(["cksum"], input=(ROOT / "pyproject.toml").read_bytes()).decode().split()
    (tmp_path / ".venv" / f"installed-dev,embedded-{checksum}-{size}").touch()
    real = Path(sys.executable).parent
    for name, command in {
        "python": f'exec {sys.executable} "$@"',
        "ruff": f'exec {real / "ruff"} "$@"',
        "coverage": 'echo "coverage $*" >>calls',
        "pytest": 'echo "pytest $*" >>calls',
        "mypy": 'echo "mypy $*" >>calls',
        "gofmt": 'echo "gofmt $*" >>calls',
        "go": '[ "$1" = env ] && echo go99.0 || echo "go $*" >>calls',
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{command}\n")
        (tools / name).chmod(0o755)
    return tmp_path


def call(checkout: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name not in {"CI", "PYTHONPATH"}}
    return subprocess.run(
        command, cwd=checkout, env={**variables, **environment}, capture_output=True, text=True, check=False, timeout=800
    )


def calls(checkout: Path) -> list[str]:
    return (checkout / "calls").read_text().splitlines()


PYTEST = "pytest -n 4 --dist worksteal"
COVERED = "pytest --ignore-glob=*/test_costs.py -n 4 --dist worksteal"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", [PYTEST, "go test -race ./..."]),
        ("--quick", [f"{PYTEST} -m not slow", "go test -race -short ./..."]),
        ("tests/unit -k wire", ["pytest tests/unit -k wire"]),
        ("--go", ["go test -race ./..."]),
        ("--go TestSweeper -v", ["go test -race -run TestSweeper -v ./..."]),
        ("--go -run TestSweeper ./interop/delayed", ["go test -race -run TestSweeper ./interop/delayed"]),
    ],
)
def test_the_words_of_the_test_script(checkout: Path, words: str, expected: list[str]) -> None:
    done = call(checkout, "scripts/test", *words.split())
    assert done.returncode == 0, done.stderr
    assert calls(checkout) == expected


def test_the_tests_run_on_a_server_that_is_named(checkout: Path) -> None:
    tools = checkout / ".venv" / "bin"
    (tools / "pytest").write_text('#!/bin/sh\necho "$DELAYED_REDIS_SERVER $*" >>calls\n')
    (tools / "my-server").touch(0o755)
    for done in (
        call(checkout, "scripts/test", "--server", "my-server", "tests/unit"),
        call(checkout, "scripts/test", "tests/unit", DELAYED_REDIS_SERVER="my-server"),
    ):
        assert done.returncode == 0, done.stderr
    assert calls(checkout) == [f"{tools / 'my-server'} tests/unit"] * 2
    done = call(checkout, "scripts/test", "--server", "no-server")
    assert done.returncode == 1
    assert "DELAYED_REDIS_SERVER is no-server, which is no program" in done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [("", COVERED), ("--quick", f"{COVERED} -m not slow"), ("tests/unit -k wire", "pytest tests/unit -k wire")],
)
def test_coverage_takes_the_same_words(checkout: Path, words: str, expected: str) -> None:
    done = call(checkout, "scripts/test", "--coverage", *words.split())
    assert done.returncode == 0, done.stderr
    assert calls(checkout) == [f"coverage {each}" for each in ("erase", f"run -m {expected}", "combine --quiet", "report")]


@pytest.mark.slow
def test_coverage_follows_processes(checkout: Path) -> None:
    """Its settings measure a process that a test starts, and a fork of that one which leaves by os._exit."""
    shutil.rmtree(checkout / "delayed")
    (checkout / "delayed.py").write_text("def parent():\n    return 1\n\n\ndef child():\n    return 2\n")
    code = "import os, delayed; (delayed.child(), os._exit(0)) if os.fork() == 0 else (delayed.parent(), os.wait())"
    test = f"import subprocess, sys\ndef test(): subprocess.run([sys.executable, '-c', {code!r}], check=True)\n"
    (checkout / "test_it.py").write_text(test)
    for words in ("run -m pytest -q test_it.py", "combine --quiet", "report --fail-under=100"):
        done = call(checkout, sys.executable, "-m", "coverage", *words.split(), PYTHONPATH=str(checkout))
        assert done.returncode == 0, done.stdout + done.stderr


def test_check_mends_what_can_be_mended(checkout: Path) -> None:
    bad = checkout / "delayed" / "base" / "clock.py"
    good = bad.read_text()
    bad.write_text(good.replace("import time", "import time\nimport ast").replace(" = ", "  =  "))
    assert call(checkout, "scripts/check").returncode == 1
    done = call(checkout, "scripts/check", "--fix")
    assert done.returncode == 0, done.stdout + done.stderr
    assert bad.read_text() == good
    assert "gofmt -w lua interop bench tests examples" in calls(checkout)
    assert call(checkout, "scripts/check", "--mend").returncode == 2


def version() -> str:
    (found,) = re.findall(r'^__version__ = "(.*)"$', (ROOT / "delayed" / "__init__.py").read_text(), re.MULTILINE)
    return str(found)


def commit(checkout: Path, heading: str) -> None:
    """Put a heading into the changelog, and commit everything but the tools."""
    changelog = checkout / "CHANGELOG.md"
    changelog.write_text(re.sub(r"^## .*$", f"## {heading}", changelog.read_text(), count=1, flags=re.MULTILINE))
    (checkout / ".gitignore").write_text(".venv\ncalls\ndist\n")
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for words in (["init", "--quiet"], ["add", "."], [*who, "commit", "--quiet", "--message", "all"]):
        subprocess.run(["git", *words], cwd=checkout, check=True)


TODAY = f"{datetime.date.today():%Y-%m-%d}"
IDENTITY = {"GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "test@example.org"}


@pytest.mark.parametrize("heading", ["1.9.0 (2024-01-01)", f"{version()} (unreleased)", f"{version()} (2024-01-01)"])
def test_a_release_wants_its_version_and_date_in_the_changelog(checkout: Path, heading: str) -> None:
    commit(checkout, heading)
    done = call(checkout, "scripts/release")
    assert done.returncode == 1
    assert f"the newest heading of CHANGELOG.md is '## {heading}'" in done.stderr
    assert f"'## {version()} ({TODAY})'" in done.stderr


def test_a_release_is_of_what_is_committed_and_new(checkout: Path) -> None:
    commit(checkout, f"{version()} ({TODAY})")
    (checkout / "notes").touch()
    assert "not committed" in call(checkout, "scripts/release").stderr
    (checkout / "notes").unlink()
    subprocess.run(["git", "tag", f"python-{version()}"], cwd=checkout, check=True)
    assert "is there already" in call(checkout, "scripts/release").stderr


@pytest.mark.slow
def test_a_release_is_built_tried_and_tagged(checkout: Path) -> None:
    """Here each Python is one that notes what it should do; `--dry-run` below uses a real one."""
    commit(checkout, f"{version()} ({TODAY})")
    stub = checkout / ".venv" / "bin" / "stub"
    note = f'#!/bin/sh\\ncat >/dev/null; echo "python $*" >>{checkout}/calls\\n'
    stub.write_text(f'#!/bin/sh\nmkdir -p "$4/bin" && printf \'{note}\' >"$4/bin/python" && chmod +x "$4/bin/python"\n')
    stub.chmod(0o755)
    done = call(checkout, "scripts/release", PYTHONS=f"{stub} {stub}", **IDENTITY)
    assert done.returncode == 0, done.stdout + done.stderr
    wheel, sdist = (f"dist/delayedq-{version()}{end}" for end in ("-py3-none-any.whl", ".tar.gz"))
    assert (checkout / wheel).exists()
    installs = [line.split()[-1] for line in calls(checkout) if " install " in line]
    assert installs == [wheel, sdist] * 2
    assert len([line for line in calls(checkout) if line.startswith("python - unix://")]) == 4
    tags = subprocess.check_output(["git", "tag"], cwd=checkout, text=True).split()
    assert tags == [f"python-{version()}"]
    assert f"git push origin {tags[0]}" in done.stdout


@pytest.mark.slow
def test_the_wheel_and_the_sdist_work_in_clean_environments(checkout: Path) -> None:
    commit(checkout, f"{version()} (unreleased)")
    done = call(checkout, "scripts/release", "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok: Python") == 2
    assert not subprocess.check_output(["git", "tag"], cwd=checkout)
    assert not (checkout / "dist").exists()
