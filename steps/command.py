"""What all commands do: talk to the terminal, and end in one line and a status when they fail."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from steps.market.plain_text import show_unseen
from steps.market.price_report import PriceError
from steps.tracking.settings import redact
from steps.tracking.stores import first_line


def say(message: str) -> None:
    """Tell the person at the terminal, whatever the names in it may hold.

    Where that is ``… | head``, which has read enough and is gone, the work goes on.
    """
    try:
        print(show_unseen(message), flush=True)  # noqa: T201
    except BrokenPipeError:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar where somebody watches; yield what moves it on by a number."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


class Stopped(KeyboardInterrupt):
    """The process was asked to stop, by Ctrl-C or by whoever started it.

    Being a KeyboardInterrupt, it makes MLflow stop the project run it is waiting for.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum
        self.status = 128 + signum


@contextmanager
def command(
    name: str, *errors: type[Exception], status: int = 1, when_stopped: str = ""
) -> Iterator[None]:
    """End the process in one line where its work fails, or is stopped.

    Parameters
    ----------
    name : str
        As the person at the terminal knows the command.
    *errors : type of Exception
        What is told in one line.
    status : int, optional
        What to leave with after an error. After a stop it is 128 and the signal's number.
    when_stopped : str, optional
        What to do next, after a stop.
    """
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as a shell sets it in background
        signal.signal(signal.SIGINT, _stop)
    try:
        yield
    except Stopped as stop:
        leave_with(f"candlewick {name} failed: {stop}{when_stopped}", status=stop.status)
    except errors as error:
        leave_with(f"candlewick {name} failed: {_reason(error)}", status=status)


def _reason(error: Exception) -> str:
    """Return an error's first line; all of them where it began with a report on prices.

    What a step that ran by itself began with is known by name, from what its run recorded.
    """
    began: BaseException | None = error
    while began is not None:
        if isinstance(began, PriceError) or str(began).startswith(f"{PriceError.__name__}: "):
            return str(error)
        began = began.__cause__
    return first_line(error)


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    # `mlflow run` answers Ctrl-C, which has reached this process already, with a SIGTERM on top:
    # that must not cut short the closing of the run.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.unraisablehook = _stop_again
    raise Stopped(signum)


def _stop_again(dropped: sys.UnraisableHookArgs) -> None:
    """Stop a moment later where the stop came in code whose exceptions Python drops.

    That is a weak reference's callback, a ``__del__``, or a function that C code calls.
    """
    if not isinstance(dropped.exc_value, Stopped):
        sys.__unraisablehook__(dropped)
        return
    signum = dropped.exc_value.signum
    signal.signal(signal.SIGALRM, lambda *_: _stop(signum, None))
    signal.setitimer(signal.ITIMER_REAL, 0.01)


def leave_with(message: str, *, status: int) -> NoReturn:
    """End the process with one line on standard error."""
    print(show_unseen(redact(message)), file=sys.stderr, flush=True)  # noqa: T201
    sys.exit(status)
