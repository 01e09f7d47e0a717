"""`delayed top`: what the web UI shows of queues, in a terminal, and what is done to them."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen, Screen
from textual.widgets import DataTable, Footer, Header, Input, Label, Static, TabbedContent, TabPane

from ..base.escape import escaped
from ..cron.schedules import Schedules
from ..dead_letters.search import Search
from ..errors import DelayedError, InvalidAct
from ..ops import actions, dead_actions, task_actions
from ..ops.acts import ACTS, Form, editable
from ..ops.audit import Actor, Done
from ..ops.job_records import Job
from ..ops.jobs import Runner, begin, stop_job
from ..queue.queue import Queue
from ..redis.command import RedisError
from ..workflow.run import Run
from .top_panes import ABOUT_ONE, PANES, STATES, Chosen, Pane

Act = Callable[[], Done | Job]


def _text(said: object) -> Text:
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
        yield Vertical(Label(_text(self._asks)), Label(Text("y: yes   n: no")), id="question")

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
            yield Label(_text(self._asks))
            for name, value in self._fields.items():
                yield Label(_text(name))
                yield Input(value, id=f"field-{name}")
            yield Label(Text("enter: do it   tab: next line   escape: leave it"))

    def on_input_submitted(self) -> None:
        """Close it, with what was written."""
        self.dismiss({name: self.query_one(f"#field-{name}", Input).value for name in self._fields})

    def action_leave(self) -> None:
        """Close it."""
        self.dismiss(None)


class Top(App[None]):
    """The application.

    Args:
        queues: says which queues are shown.
        by: who acts.
        interval: seconds between two looks.
        readonly: nothing can be changed.
    """

    TITLE = "delayed top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    TabbedContent, DataTable { height: 1fr; }
    #says { height: 1; color: $text-muted; padding: 0 1; }
    Question, Fields { align: center middle; }
    #fields { width: 100; height: auto; padding: 1 2; border: round $accent; background: $surface; }
    #question { width: 60; height: auto; padding: 1 2; border: round $error; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("s", "state", "Next state"),
        Binding("p", "pause", "Pause or go on"),
        Binding("r", "retry", "Retry"),
        Binding("c", "cancel", "Cancel"),
        Binding("n", "run_now", "Run now"),
        Binding("l", "limit", "Limit…"),
        Binding("e", "edit", "Edit…"),
        Binding("g", "signal", "Signal…"),
        Binding("d", "delete", "Remove…"),
        Binding("x", "stop", "Stop job"),
    ]
    _OF: ClassVar[dict[str, Sequence[str]]] = {  # action → the panes in which it can be
        "state": ("tasks",),
        "pause": ("queues", "schedules"),
        "retry": ("causes", "tasks", "workflows"),
        "cancel": ("tasks", "workflows"),
        "run_now": ("tasks", "schedules"),
        "limit": ("queues",),
        "edit": ("tasks",),
        "signal": ("workflows",),
        "delete": ("queues", "causes", "tasks", "schedules"),
        "stop": ("jobs",),
    }

    def __init__(self, queues: Callable[[], list[Queue]], by: Actor, interval: float = 2.0, *, readonly: bool = False) -> None:
        super().__init__()
        self._queues, self._by, self._interval, self._readonly = queues, by, interval, readonly
        self._chosen = Chosen(())
        self._marked_queue = ""
        self._looking = self._again = self._working = False

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
        if not self._readonly:
            self.set_interval(self._interval, self.work_on_jobs)

    @property
    def pane(self) -> str:
        """The one that is shown."""
        return self._main.query_one(TabbedContent).active or "queues"

    @property
    def _main(self) -> Screen[object]:
        """The screen below any question."""
        return self.screen_stack[0]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that do nothing here are not shown."""
        if action in self._OF:
            there = self.pane in self._OF[action] and (action != "edit" or self._chosen.state == "dead")
            return there and (action == "state" or not self._readonly)
        return super().check_action(action, parameters)

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
            self._look(self.pane, self._chosen.state)

    @work(thread=True)
    def _look(self, name: str, state: str) -> None:
        show: Callable[[], None]
        try:
            queues = tuple(self._queues())
            marked = next((each for each in queues if each.name == self._marked_queue), next(iter(queues), None))
            chosen = Chosen(queues, marked, state)
            show = partial(self._show, name, chosen, PANES[name](chosen))
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
        if chosen.state != self._chosen.state:  # another one is wanted by now
            return
        self._chosen = chosen
        table = self._table(name)
        marked = self._marked(name)
        table.clear(columns=True)
        table.add_columns(*(Text(each) for each in pane.head))
        for row in {each.key: each for each in pane.rows}.values():
            table.add_row(*(Text(cell.text, style=cell.colour or "") for cell in row.cells), key=row.key)
        if marked in [each.key for each in pane.rows]:
            table.move_cursor(row=table.get_row_index(marked))
        queue = f"{chosen.queue.name}  " if name in ABOUT_ONE and chosen.queue is not None else ""
        self._say(f"{queue}{pane.says}")

    def _say(self, text: str) -> None:
        self._main.query_one("#says", Static).update(_text(text))

    def _table(self, name: str = "") -> DataTable[Text]:
        return self._main.query_one(f"#table-{name or self.pane}", DataTable)

    def _marked(self, name: str = "") -> str:
        """The key of the row that is marked; nothing if there is none."""
        table = self._table(name)
        if not table.row_count:
            return ""
        return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value or ""

    def work_on_jobs(self) -> None:
        """Work on one of the jobs on which nobody works."""
        if not self._working:
            self._working = True
            self._work()

    @work(thread=True)
    def _work(self) -> None:
        try:
            Runner(self._queues, lambda: not self.is_running).step()
        except (DelayedError, RedisError, OSError) as error:
            self.call_from_thread(self._say, f"Error: {error}")
        finally:
            self._working = False

    # What an operator does

    def action_state(self) -> None:
        """Show tasks in the next state."""
        state = STATES[(STATES.index(self._chosen.state) + 1) % len(STATES)]
        self._chosen = Chosen(self._chosen.queues, self._chosen.queue, state)
        self.refresh_bindings()
        self.look()

    def action_pause(self) -> None:
        """Pause the queue or the schedule that is marked, or let it go on."""
        if self.pane == "schedules":
            self._with_named(partial(pause_or_resume, by=self._by))
        elif queue := self._queue():
            self._do(lambda: (actions.resume_queue if queue.limits().paused else actions.pause_queue)(queue, self._by))

    def action_retry(self) -> None:
        """Retry a dead letter, or all of a cause, or what has failed in a workflow."""
        if self.pane == "workflows":
            self._with_named(lambda queue, identity: actions.retry_flow(Run(queue, identity), self._by))
            return
        queue, marked, by = self._queue(), self._marked(), self._by
        if queue is None or not marked:
            return
        if self.pane == "causes":
            self._do(lambda: begin(queue, by, "dead.retry", Search(cause=marked)))
        else:
            self._do(lambda: dead_actions.retry_letters(queue, by, [marked]))

    def action_cancel(self) -> None:
        """Cancel a task or a workflow."""
        if self.pane == "workflows":
            by = self._by
            self._with_named(lambda queue, identity: actions.cancel_flow(Run(queue, identity), by), "Cancel the workflow {}?")
            return
        self._with_task(task_actions.cancel_tasks)

    def action_run_now(self) -> None:
        """Let a task in the schedule, or a schedule, run now."""
        if self.pane == "schedules":
            self._with_named(lambda queue, name: actions.run_schedule(queue, self._by, name))
            return
        self._with_task(task_actions.move_tasks)

    def _with_task(self, act: Callable[[Queue, Actor, Sequence[str]], Done]) -> None:
        queue, marked = self._queue(), self._marked()
        if queue is not None and marked:
            self._do(lambda: act(queue, self._by, task_actions.checked_ids([marked])))

    def _named(self) -> tuple[Queue | None, str]:
        """What is marked, whose row says in which queue it is."""
        name, _, identity = self._marked().partition("\0")
        return next((each for each in self._chosen.queues if each.name == name), None), identity

    def _with_named(self, act: Callable[[Queue, str], Done | Job], asks: str = "") -> None:
        """Do something to what is marked, whose row says in which queue it is; ask first, if there is a question."""
        queue, identity = self._named()
        if queue is None:
            return
        if asks:
            self._ask(asks.format(identity), lambda: act(queue, identity))
        else:
            self._do(lambda: act(queue, identity))

    def action_delete(self) -> None:
        """Remove what is marked: a task, a dead letter, all of a cause, all that waits in a queue, or a schedule."""
        if self.pane == "schedules":
            remove = actions.remove_schedule
            self._with_named(lambda queue, name: remove(queue, self._by, name), "Remove the schedule {}?")
            return
        queue, marked, by, pane = self._queue(), self._marked(), self._by, self.pane
        if queue is None or not marked:
            return
        if pane == "queues":
            self._ask(f"Remove all tasks that wait in {queue.name}, for good?", lambda: begin(queue, by, "queue.purge"))
        elif pane == "causes":
            asks = f"Remove all dead letters of {queue.name} with the cause {marked}, for good?"
            self._ask(asks, lambda: begin(queue, by, "dead.delete", Search(cause=marked)))
        elif self._chosen.state == "dead":
            self._ask(f"Remove the dead letter {marked}?", lambda: dead_actions.delete_letters(queue, by, [marked]))
        else:
            delete = task_actions.delete_tasks
            self._ask(f"Remove the task {marked}?", lambda: delete(queue, by, task_actions.checked_ids([marked])))

    def action_limit(self) -> None:
        """Set the limits of a queue."""
        queue, by = self._queue(), self._by
        if queue is None:
            return

        def read() -> dict[str, str]:
            limits = queue.limits()
            found = {"concurrency": limits.concurrency, "rate": limits.rate, "burst": limits.burst}
            return {name: "" if value is None else f"{value:g}" for name, value in found.items()}

        def limit(form: Form) -> Done:
            concurrency, rate, burst = form.whole("concurrency"), form.number("rate"), form.whole("burst")
            return actions.set_limits(queue, by, concurrency=concurrency, rate=rate, burst=burst)

        self._enter(
            f"Limits of {queue.name}: tasks at once, tasks a second, at once after a rest; nothing for none", read, limit
        )

    def action_edit(self) -> None:
        """Retry a dead letter with other arguments."""
        queue, marked, by = self._queue(), self._marked(), self._by
        if queue is None or not marked:
            return

        def read() -> dict[str, str]:
            fields = editable(dead_actions.letter_named(queue, marked).data)
            if fields is None:
                raise InvalidAct("its arguments are hidden, or have no form in JSON: `delayed dead retry` can change them")
            return fields

        edit = lambda form: ACTS["dead.edit"].do(queue, by, form)  # noqa: E731
        self._enter(f"Retry {marked} with these arguments, in JSON", read, edit, id=marked)

    def action_signal(self) -> None:
        """Give a workflow a signal."""
        (queue, identity), by = self._named(), self._by
        if queue is not None:
            signal = lambda form: ACTS["flow.signal"].do(queue, by, form)  # noqa: E731
            asks = f"A signal for {identity}: its name, and what it carries, in JSON"
            self._enter(asks, lambda: {"name": "", "payload": ""}, signal, id=identity)

    def action_stop(self) -> None:
        """Stop a job."""
        self._with_named(lambda queue, identity: stop_job(queue, self._by, identity))

    def _queue(self) -> Queue | None:
        name = self._marked() if self.pane == "queues" else self._chosen.queue.name if self._chosen.queue else ""
        return next((each for each in self._chosen.queues if each.name == name), None)

    def _ask(self, asks: str, act: Act) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                self._do(act)

        self.push_screen(Question(asks), answered)

    @work(thread=True)
    def _enter(self, asks: str, read: Callable[[], Mapping[str, str]], do: Callable[[Form], Done | Job], **known: str) -> None:
        """Ask for fields, which have at first what is read, and do something with them and with what is known."""
        try:
            fields = read()
        except (DelayedError, RedisError, OSError) as error:
            self.call_from_thread(self.notify, _text(error).plain, severity="error", markup=False)
            return

        def answered(given: dict[str, str] | None) -> None:
            if given is not None:
                self._do(lambda: do(Form({name: [value] for name, value in {**given, **known}.items()})))

        self.call_from_thread(self.push_screen, Fields(asks, fields), answered)

    @work(thread=True)
    def _do(self, act: Act) -> None:
        try:
            done = act()
        except (DelayedError, RedisError, OSError) as error:
            self.call_from_thread(self.notify, _text(error).plain, severity="error", markup=False)
            return
        if isinstance(done, Job):
            self.call_from_thread(self.notify, f"job {done.id}: {done.act}, {done.state}", markup=False)
        else:
            says = "\n".join(filter(None, (done.says, done.note, done.left)))
            self.call_from_thread(
                self.notify, _text(says).plain, severity="warning" if done.left else "information", markup=False
            )
        self.call_from_thread(self.look)


def pause_or_resume(queue: Queue, name: str, by: Actor) -> Done:
    """Pause a schedule, or let it go on."""
    paused = any(each.name == name and each.next is None for each in Schedules(queue).list())
    return (actions.resume_schedule if paused else actions.pause_schedule)(queue, by, name)
