"""What `delayed top` shows over its tabs: a question, fields to fill in, and all that is known of one thing."""

from collections.abc import Iterable, Mapping
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Label, Static

from ..base.escape import escaped


def text_of(said: object) -> Text:
    """What may have names in it, for the screen: a terminal takes none of it for anything else."""
    return Text("\n".join(map(escaped, str(said).split("\n"))))


class Question(ModalScreen[bool]):
    """Asks before something is removed."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("y", "answer(True)", "Yes"), Binding("n,escape", "answer(False)", "No")]

    def __init__(self, asks: str) -> None:
        super().__init__()
        self._asks = asks

    def compose(self) -> ComposeResult:
        """The question and the keys that answer it."""
        yield Vertical(Label(text_of(self._asks)), Label(Text("y: yes   n: no")), id="question")

    def action_answer(self, yes: bool) -> None:
        """Close it."""
        self.dismiss(yes)


class Fields(ModalScreen[dict[str, str]]):
    """Asks for what an act needs to know."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Leave it")]

    def __init__(self, asks: str, fields: Mapping[str, str]) -> None:
        super().__init__()
        self._asks, self._fields = asks, fields

    def compose(self) -> ComposeResult:
        """What is asked, and a line for each field."""
        with Vertical(id="fields"):
            yield Label(text_of(self._asks))
            for name, value in self._fields.items():
                yield Label(text_of(name))
                yield Input(value, id=f"field-{name}")
            yield Label(Text("enter: do it   tab: next line   escape: leave it"))

    def on_input_submitted(self) -> None:
        """Close it, with what was written."""
        self.dismiss({name: self.query_one(f"#field-{name}", Input).value for name in self._fields})

    def action_leave(self) -> None:
        """Close it."""
        self.dismiss(None)


class Detail(ModalScreen[None]):
    """Shows lines of text, until it is closed."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q", "leave", "Back")]

    def __init__(self, lines: Iterable[str]) -> None:
        super().__init__()
        self.text = text_of("\n".join(lines))

    def compose(self) -> ComposeResult:
        """The lines, and how to go back."""
        with Vertical(id="detail"):
            with VerticalScroll():
                yield Static(self.text)
            yield Label(Text("arrows: scroll   escape: back"))

    def action_leave(self) -> None:
        """Close it."""
        self.dismiss(None)
