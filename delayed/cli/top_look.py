"""What `delayed top` shows, and how it looks again: its tabs, the filter of each, and all that is known of a row."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Header, Static, TabbedContent, TabPane

from ..errors import DelayedError
from ..queue.queue import Queue
from ..redis.command import RedisError
from .top_detail import DETAILS
from .top_panes import ABOUT_ONE, PANES, STATES, Chosen, Pane, Row, filtered
from .top_screens import Detail, Fields, text_of


class Look(App[None]):
    """The application, as far as it shows.

    Args:
        queues: says which queues are shown.
        interval: seconds between two looks.
    """

    TITLE = "delayed top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    TabbedContent, DataTable { height: 1fr; }
    #says { height: 1; color: $text-muted; padding: 0 1; }
    Question, Fields, Detail { align: center middle; }
    #fields { width: 100; height: auto; padding: 1 2; border: round $accent; background: $surface; }
    #detail { width: 95%; height: 90%; padding: 1 2; border: round $accent; background: $surface; }
    #question { width: 60; height: auto; padding: 1 2; border: round $error; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("s", "state", "Next state"),
        Binding("slash", "find", "Filter…"),
    ]

    def __init__(self, queues: Callable[[], list[Queue]], interval: float = 2.0) -> None:
        super().__init__()
        self._queues, self._interval = queues, interval
        self._chosen = Chosen(())
        self._rows: dict[str, dict[str, Row]] = {}  # of each tab, by their keys
        self._finds: dict[str, str] = {}  # what each tab is filtered by
        self._marked_queue = ""
        self._looking = self._again = False

    def compose(self) -> ComposeResult:
        """Its tabs."""
        yield Header(show_clock=True)
        with TabbedContent():
            for name in PANES:
                with TabPane(name.capitalize(), id=name):
                    yield DataTable(id=f"table-{name}", cursor_type="row", zebra_stripes=True)
        yield Static(id="says")
        yield Footer()

    def on_mount(self) -> None:
        """Look, and go on looking."""
        self.look()
        self.set_interval(self._interval, self.look)

    @property
    def pane(self) -> str:
        """The one that is shown."""
        return self._main.query_one(TabbedContent).active or "queues"

    @property
    def _main(self) -> Screen[object]:
        """The screen below any question."""
        return self.screen_stack[0]

    def on_tabbed_content_tab_activated(self) -> None:
        """Show it."""
        self._table().focus()
        self.refresh_bindings()
        self.look()

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """The queue that is marked is the one that the other tabs show."""
        if event.data_table.id == "table-queues" and event.row_key.value is not None:
            self._marked_queue = event.row_key.value

    def look(self) -> None:
        """Read the pane that is shown; if that goes on already, once more after it."""
        self._again = self._looking
        if not self._looking:
            self._looking = True
            self._look(self.pane, self._chosen.state, self._finds.get(self.pane, ""))

    @work(thread=True)
    def _look(self, name: str, state: str, find: str) -> None:
        show: Callable[[], None]
        try:
            queues = tuple(self._queues())
            marked = next((each for each in queues if each.name == self._marked_queue), next(iter(queues), None))
            chosen = Chosen(queues, marked, state, find)
            show = partial(self._show, name, chosen, filtered(name, chosen))
        except (DelayedError, RedisError, OSError) as error:
            show = partial(self._say, f"Error: {error}")
        self.call_from_thread(self._looked, show)

    def _looked(self, show: Callable[[], None]) -> None:
        self._looking = False
        if not self.is_running:
            return
        show()
        if self._again:
            self.look()

    def _show(self, name: str, chosen: Chosen, pane: Pane) -> None:
        if chosen.state != self._chosen.state or chosen.find != self._finds.get(name, ""):  # others are wanted by now
            return
        self._chosen = chosen
        table = self._table(name)
        marked = self._marked(name)
        table.clear(columns=True)
        table.add_columns(*(Text(each) for each in pane.head))
        self._rows[name] = {each.key: each for each in pane.rows}
        for row in self._rows[name].values():
            table.add_row(*(Text(cell.text, style=cell.colour or "") for cell in row.cells), key=row.key)
        if marked in self._rows[name]:
            table.move_cursor(row=table.get_row_index(marked))
        queue = f"{chosen.queue.name}  " if name in ABOUT_ONE and chosen.queue is not None else ""
        find = f"  filter: {chosen.find}" if chosen.find else ""
        self._say(f"{queue}{pane.says}{find}")

    def _say(self, text: str) -> None:
        self._main.query_one("#says", Static).update(text_of(text))

    def _table(self, name: str = "") -> DataTable[Text]:
        return self._main.query_one(f"#table-{name or self.pane}", DataTable)

    def _marked(self, name: str = "") -> str:
        """The key of the row that is marked; nothing if there is none."""
        table = self._table(name)
        if not table.row_count:
            return ""
        return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value or ""

    def action_state(self) -> None:
        """Show tasks in the next state."""
        state = STATES[(STATES.index(self._chosen.state) + 1) % len(STATES)]
        self._chosen = Chosen(self._chosen.queues, self._chosen.queue, state)
        self.refresh_bindings()
        self.look()

    def action_find(self) -> None:
        """Ask for a text, and show only what has it."""
        pane = self.pane

        def answered(given: dict[str, str] | None) -> None:
            if given is not None:
                self._finds[pane] = given["filter"]
                self.look()

        self.push_screen(
            Fields("Show only what has this text; nothing for all", {"filter": self._finds.get(pane, "")}), answered
        )

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Show all that is known of a row."""
        row = self._rows.get(self.pane, {}).get(event.row_key.value or "")
        if row is not None and self.pane in DETAILS:
            self.tell(partial(DETAILS[self.pane], self._chosen, row))

    @work(thread=True)
    def tell(self, read: Callable[[], Iterable[str]]) -> None:
        """Show lines of text, when they have been read."""
        try:
            lines = list(read())
        except (DelayedError, RedisError, OSError) as error:
            self.call_from_thread(self.notify, text_of(error).plain, severity="error", markup=False)
            return
        self.call_from_thread(self.push_screen, Detail(lines))
