"""The parts that the loop of a worker works with."""

from dataclasses import dataclass

from ..job.emitter import Emitter
from ..job.functions import Functions
from ..job.runner import Runner
from ..redis.channel import Channel
from ..system.signals import SignalPipe
from .completer import Completer
from .deferral import Deferral
from .fetcher import Fetcher
from .options import WorkerOptions
from .recovery import Recovery
from .recycling import Recycling
from .state import WorkerState


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a worker, made once, that either of its loops is given."""

    options: WorkerOptions
    state: WorkerState
    signals: SignalPipe
    channel: Channel  # the worker's connection
    functions: Functions
    runner: Runner
    emitter: Emitter
    deferral: Deferral
    completer: Completer
    fetcher: Fetcher
    recovery: Recovery
    recycling: Recycling
