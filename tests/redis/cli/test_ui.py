"""What `delayed ui` takes for roles."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from delayed.cli.main import main
from delayed.cli.ui import _roles


def said(*arguments: str) -> str:
    found = CliRunner().invoke(main, ["ui", "--redis", "redis://127.0.0.1:1", *arguments])
    assert found.exit_code != 0
    return found.output


def test_roles_of_everyone_and_of_persons() -> None:
    assert _roles([]) == ("admin", {})
    assert _roles(["view"]) == ("view", {})
    assert _roles(["view", "operate:web:*"]) == ("view,operate:web:*", {})
    assert _roles(["view", "ops=operate:web:*", "ops=admin:mail", "a@b.org=admin"]) == (
        "view",
        {"ops": "operate:web:*,admin:mail", "a@b.org": "admin"},
    )
    assert _roles(["operate:a=b"]) == ("operate:a=b", {})
    assert _roles(["admin=view"]) == (None, {"admin": "view"})


def test_roles_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    assert "a role is one of view, operate, admin" in said("--role", "root")
    assert "a role is one of view, operate, admin" in said("--role", "ada=root", "--trust-header", "X-User")
    assert "nobody has a name" in said("--role", "ada=view")
    users = tmp_path / "users"
    users.write_text("ada view,operat:web:* secret\n")
    users.chmod(0o600)
    assert "a role is one of" in said("--users", str(users))
    assert "stand in that file" in said("--users", str(users), "--role", "view")
    users.chmod(0o644)
    assert "chmod 600" in said("--users", str(users))


@pytest.mark.parametrize("line", ["ada", "ada view"])
def test_a_line_of_users_has_three_words(tmp_path: Path, line: str) -> None:
    users = tmp_path / "users"
    users.write_text(f"# who\n\n{line}\n")
    users.chmod(0o600)
    assert "line 3: write a name, a role and a password" in said("--users", str(users))
