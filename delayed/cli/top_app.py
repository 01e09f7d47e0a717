"""`delayed top`: what the web UI shows of queues, in a terminal, and what is done to them."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar, get_args

from textual import work
from textual.binding import Binding, BindingType

from ..dead_letters.search import Search
from ..errors import DelayedError
from ..ops import actions, dead_actions, task_actions
from ..ops.acts import ACTS, Form
from ..ops.audit import Actor, Done
from ..ops.job_records import Job
from ..ops.jobs import REPAIR, Runner, begin, stop_job
from ..ops.overview import server_time
from ..queue.queue import Queue
from ..redis.command import RedisError
from ..workflow.again import RetryMode
from ..workflow.run import Run
from .top_acts import arguments_of, limits_of, moment_in, pause_or_resume, set_limits
from .top_detail import checked_lines
from .top_look import Look
from .top_panes import STATES
from .top_screens import Fields, Question, text_of

Act = Callable[[], Done | Job]


class Top(Look):
    """The application.

    Args:
        queues: says which queues are shown.
        by: who acts.
        interval: seconds between two looks.
        readonly: nothing can be changed.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "pause", "Pause or go on"),
        Binding("r", "retry", "Retry"),
        Binding("t", "retry_by", "Retry by…"),
        Binding("c", "cancel", "Cancel"),
        Binding("k", "cancel_hard", "Cancel hard…"),
        Binding("n", "run_now", "Run now"),
        Binding("m", "move", "Move…"),
        Binding("l", "limit", "Limit…"),
        Binding("e", "edit", "Edit…"),
        Binding("g", "signal", "Signal…"),
        Binding("v", "check", "Check"),
        Binding("f", "repair", "Repair…"),
        Binding("d", "delete", "Remove…"),
        Binding("x", "stop", "Stop job"),
    ]
    _OF: ClassVar[dict[str, Sequence[str]]] = {  # action → the panes in which it can be
        "state": ("tasks",),
        "pause": ("queues", "schedules"),
        "retry": ("causes", "tasks", "workflows"),
        "retry_by": ("workflows",),
        "cancel": ("tasks", "workflows"),
        "cancel_hard": ("tasks",),
        "run_now": ("tasks", "schedules"),
        "move": ("tasks",),
        "limit": ("queues",),
        "edit": ("tasks",),
        "signal": ("workflows",),
        "check": ("queues",),
        "repair": ("queues",),
        "delete": ("queues", "causes", "tasks", "schedules"),
        "stop": ("jobs",),
    }
    _IN: ClassVar[dict[str, Sequence[str]]] = {  # action → the states of tasks in which it can be, if not in all
        "edit": ("dead",),
        "cancel_hard": ("running",),
        "move": ("scheduled", "retrying"),
    }

    def __init__(self, queues: Callable[[], list[Queue]], by: Actor, interval: float = 2.0, *, readonly: bool = False) -> None:
        super().__init__(queues, interval)
        self._by, self._readonly = by, readonly
        self._working = False

    def on_mount(self) -> None:
        """Work on jobs, too."""
        if not self._readonly:
            self.set_interval(self._interval, self.work_on_jobs)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that do nothing here are not shown."""
        if action in self._OF:
            in_state = self.pane != "tasks" or self._chosen.state in self._IN.get(action, STATES)
            return self.pane in self._OF[action] and in_state and (action in ("state", "check") or not self._readonly)
        return super().check_action(action, parameters)

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

    def action_cancel_hard(self) -> None:
        """Cancel a task that runs, and end its process if it does not stop by itself."""
        queue, marked, by = self._queue(), self._marked(), self._by
        if queue is not None and marked:
            cancel = partial(task_actions.cancel_tasks, queue, by, hard=True)
            asks = f"Cancel {marked}, and end its process if it does not stop within seconds?"
            self._ask(asks, lambda: cancel(task_actions.checked_ids([marked])))

    def action_move(self) -> None:
        """Give a task in the schedule another time."""
        queue, marked, by = self._queue(), self._marked(), self._by
        if queue is not None and marked:
            asks = f"When shall {marked} run: in how many seconds (or 90m, 12h, 7d), or 2030-01-31T08:00 (UTC)"

            def move(form: Form) -> Done:
                return task_actions.move_tasks(queue, by, [marked], moment_in(form.text("when") or "", server_time(queue)))

            self._enter(asks, lambda: {"when": ""}, move)

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
        if queue is not None:
            asks = f"Limits of {queue.name}: tasks at once, tasks a second, at once after a rest; nothing for none"
            self._enter(asks, partial(limits_of, queue), partial(set_limits, queue, by))

    def action_edit(self) -> None:
        """Retry a dead letter with other arguments."""
        queue, marked, by = self._queue(), self._marked(), self._by
        if queue is not None and marked:
            edit = lambda form: ACTS["dead.edit"].do(queue, by, form)  # noqa: E731
            asks = f"Retry {marked} with these arguments, in JSON"
            self._enter(asks, partial(arguments_of, queue, marked), edit, id=marked)

    def action_signal(self) -> None:
        """Give a workflow a signal."""
        (queue, identity), by = self._named(), self._by
        if queue is not None:
            signal = lambda form: ACTS["flow.signal"].do(queue, by, form)  # noqa: E731
            asks = f"A signal for {identity}: its name, and what it carries, in JSON"
            self._enter(asks, lambda: {"name": "", "payload": ""}, signal, id=identity)

    def action_retry_by(self) -> None:
        """Let a workflow that has ended go on, in a way that is asked for."""
        (queue, identity), by = self._named(), self._by
        if queue is not None:
            retry = lambda form: ACTS["flow.retry"].do(queue, by, form)  # noqa: E731
            asks = f"Retry {identity}: {', '.join(get_args(RetryMode))}"
            self._enter(asks, lambda: {"mode": "failed_only"}, retry, id=identity)

    def action_check(self) -> None:
        """Check the keys of a queue, which takes as long as it is large, and show what is found."""
        if queue := self._queue():
            self._say(f"{queue.name}: is checked …")
            self.tell(partial(checked_lines, queue))

    def action_repair(self) -> None:
        """Repair what can be repaired of a queue."""
        queue, by = self._queue(), self._by
        if queue is not None:
            self._ask(f"Repair what can be repaired of the keys of {queue.name}?", lambda: begin(queue, by, REPAIR))

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
            self.call_from_thread(self.notify, text_of(error).plain, severity="error", markup=False)
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
            self.call_from_thread(self.notify, text_of(error).plain, severity="error", markup=False)
            return
        if isinstance(done, Job):
            self.call_from_thread(self.notify, f"job {done.id}: {done.act}, {done.state}", markup=False)
        else:
            says = "\n".join(filter(None, (done.says, done.note, done.left)))
            self.call_from_thread(
                self.notify, text_of(says).plain, severity="warning" if done.left else "information", markup=False
            )
        self.call_from_thread(self.look)
