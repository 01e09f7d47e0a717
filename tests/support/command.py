"""The command `delayed` in this process."""

from click.testing import CliRunner, Result

from delayed.cli.main import main


def run(*arguments: str, status: int = 0) -> Result:
    """What it printed; its exit status must be `status`."""
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == status, result.output
    assert not result.exception or isinstance(result.exception, SystemExit)
    return result
