"""Tables of text, with colours on a terminal."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple
from unicodedata import east_asian_width

import click

from ..base.escape import escaped

_GAP = "  "


class Cell(NamedTuple):
    """A text in a table, and the colour that makes it stand out on a terminal."""

    text: str
    colour: str | None = None


def table(head: Sequence[str], rows: Iterable[Sequence[Cell]], *, colours: bool, left: int = 1) -> Iterator[str]:
    """Lines of text: the first `left` columns begin at the left, the others, which are numbers, end at the right."""
    cells = [[Cell(name) for name in head], *([Cell(escaped(cell.text), cell.colour) for cell in row] for row in rows)]
    widths = [max(_width(row[column].text) for row in cells) for column in range(len(head))]
    for number, row in enumerate(cells):
        shown = [_padded(cell, widths[column], column < left, colours and number > 0) for column, cell in enumerate(row)]
        yield _GAP.join(shown).rstrip()


def coloured(text: str, colour: str | None, colours: bool) -> str:
    """A text in a colour, if there are any."""
    return click.style(text, fg=colour) if colours and colour else text


def has_colours() -> bool:
    """Whether standard output is a terminal whose user wants colours."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def _padded(cell: Cell, width: int, is_left: bool, colours: bool) -> str:
    space = " " * (width - _width(cell.text))
    text = coloured(cell.text, cell.colour, colours)
    return text + space if is_left else space + text


def _width(text: str) -> int:
    """Columns of a terminal."""
    return sum(2 if east_asian_width(each) in "WF" else 1 for each in text)
