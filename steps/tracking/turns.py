"""Whose turn it is to change a registered model.

The registry moves an alias without asking where it points, so two promotions at once could each
replace a champion that they never saw. They take turns instead.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from filelock import BaseFileLock, FileLock, Timeout
from mlflow.exceptions import MlflowException

from steps.tracking.registry import GONE, ModelVersion, RegisteredModel, asking
from steps.tracking.stores import TrackingError

_TICKET: Final = "candlewick.turn."  # and the run ID; a tag of the registered model
_ABANDONED_AFTER: Final = 600.0  # seconds
_TRUSTED_FOR: Final = _ABANDONED_AFTER / 2  # seconds; the rest is for the changes themselves
_PATIENCE: Final = 1800.0  # seconds
_POLL: Final = 0.25  # seconds

Check = Callable[[ModelVersion | None], None]


@contextmanager
def take_turn(model: RegisteredModel, run_id: str, tell: Callable[[str], None]) -> Iterator[Check]:
    """Wait until no other run changes a model, and keep the others waiting meanwhile.

    Runs queue by tickets, which are tags of the registered model, so that it works on every
    store and from any number of hosts. A ticket is one more than all those handed out; the
    lowest has its turn. Since every run writes its own tag alone, a dead run's ticket can be
    torn up without hitting that of another run. That is done where the run is not RUNNING any
    longer, or where its ticket is ten minutes old: a process that was killed stays RUNNING
    for ever. (Hosts whose clocks differ by so much are not kept apart.)

    Parameters
    ----------
    model : RegisteredModel
    run_id : str
        The run that wants its turn.
    tell : callable
        Told whom it waits for, and where the turn could not be ended: what was done in it stands.

    Yields
    ------
    callable
        To be called just before the first change, with the champion that was found: raises a
        TrackingError where the turn has taken so long that others may soon not wait for it any
        more, or where somebody who does not queue has moved the alias.

    Raises
    ------
    TrackingError
        If the turn does not come within half an hour.

    References
    ----------
    L. Lamport, "A new solution of Dijkstra's concurrent programming problem",
    Communications of the ACM 17 (1974).
    """
    queue = _Queue(model, run_id)

    def check(champion: ModelVersion | None) -> None:
        with asking(f"whose turn with {model.name!r} it is"):
            queue.check()
        found = model.champion()
        if (found and found.number) != (champion and champion.number):
            raise TrackingError(
                f"somebody has moved the champion of {model.name} by hand meanwhile: no "
                "alias was moved; run the step again"
            )

    with _alone_in_folder(model, tell):
        try:
            with asking(f"for a turn with {model.name!r}"):
                queue.join()
                queue.wait(tell)
            yield check
        finally:
            try:
                with asking(f"to end the turn with {model.name!r}"):
                    queue.leave(run_id)
            except TrackingError as error:
                tell(f"{error}: others wait until this run has ended")


@dataclass(frozen=True)
class _Ticket:
    """A place in the queue; number 0 while its holder looks which one is free."""

    number: int
    since: float  # seconds since 1970, by the holder's clock
    host: str

    @property
    def age(self) -> float:
        return time.time() - self.since

    def write(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> _Ticket:
        try:
            content = json.loads(text)
            return cls(int(content["number"]), float(content["since"]), str(content["host"]))
        except (ValueError, TypeError, KeyError):  # a folder store, read while it is written
            return cls(0, time.time(), "unknown")


class _Queue:
    """Lamport's bakery, with the registered model's tags for shared memory."""

    def __init__(self, model: RegisteredModel, run_id: str) -> None:
        self._client = model.client
        self._name = model.name
        self._run_id = run_id
        self._ticket = _Ticket(0, time.time(), socket.gethostname())

    def join(self) -> None:
        self._show(self._ticket)  # whoever looks now waits until it has a number
        last = max((ticket.number for ticket in self._tickets().values()), default=0)
        self._show(replace(self._ticket, number=last + 1))

    def wait(self, tell: Callable[[str], None]) -> None:
        began, told = time.monotonic(), ""
        while (first := self._ahead()) is not None:
            run_id, ticket = first
            if reason := self._why_abandoned(run_id, ticket):
                tell(f"run {run_id} has left {self._name} half way, {reason}: going on without it")
                self.leave(run_id)
                continue
            if told != run_id:
                tell(f"waiting for run {run_id} on {ticket.host}, which changes {self._name}")
                told = run_id
            if time.monotonic() - began > _PATIENCE:
                raise TrackingError(
                    f"{self._name} is still being changed by run {run_id} on {ticket.host}: if "
                    "that run is dead, end it (in the UI, or with MlflowClient.set_terminated), "
                    "and start again"
                )
            time.sleep(_POLL)
            if self._ticket.age > _ABANDONED_AFTER / 10:  # waiting is no reason to be passed over
                self._renew()
        self._renew()

    def check(self) -> None:
        if self._ticket.age > _TRUSTED_FOR or self._run_id not in self._tickets():
            raise TrackingError(
                f"this run stood still for {_TRUSTED_FOR / 60:.0f} minutes or more, and others do "
                f"not wait for it for ever to change {self._name}: no alias was moved; run the "
                "step again"
            )

    def leave(self, run_id: str) -> None:
        try:
            self._client.delete_registered_model_tag(self._name, _TICKET + run_id)
        except MlflowException as error:
            if error.error_code != GONE:
                raise

    def _ahead(self) -> tuple[str, _Ticket] | None:
        """Return a run whose turn comes before ours, or may come: it has no number yet."""
        ours = (self._ticket.number, self._run_id)
        tickets = self._tickets()
        tickets.pop(self._run_id, None)
        ahead = {run: each for run, each in tickets.items() if (each.number, run) < ours}
        return min(ahead.items(), key=lambda item: (item[1].number, item[0]), default=None)

    def _why_abandoned(self, run_id: str, ticket: _Ticket) -> str | None:
        try:
            status = self._client.get_run(run_id).info.status
        except MlflowException as error:
            if error.error_code != GONE:
                raise
            status = "deleted"
        if status != "RUNNING":
            return f"being {status}"
        if ticket.age > _ABANDONED_AFTER:
            return f"{ticket.age / 60:.0f} minutes ago"
        return None

    def _tickets(self) -> dict[str, _Ticket]:
        tags = self._client.get_registered_model(self._name).tags
        return {
            name.removeprefix(_TICKET): _Ticket.read(text)
            for name, text in tags.items()
            if name.startswith(_TICKET)
        }

    def _renew(self) -> None:
        """Start the ticket's time anew, unless others may have torn it up (after a standstill)."""
        self.check()
        self._show(replace(self._ticket, since=time.time()))

    def _show(self, ticket: _Ticket) -> None:
        self._client.set_registered_model_tag(self._name, _TICKET + self._run_id, ticket.write())
        self._ticket = ticket


@contextmanager
def _alone_in_folder(model: RegisteredModel, tell: Callable[[str], None]) -> Iterator[None]:
    """Keep other processes out of a folder store, which is read while others write in it.

    MLflow lists the files of such a store first and opens them next, and fails where one is gone by
    then. Databases and servers need none of this.
    """
    uri = str(model.client.tracking_uri)
    if not uri.startswith("file:"):
        yield
        return
    folder = Path(url2pathname(urlsplit(uri).path))
    lock = FileLock(folder / f".{model.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tell(f"waiting for another run, which changes {model.name} in {folder}")
        _acquire(lock, model.name, folder)
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: BaseFileLock, name: str, folder: Path) -> None:
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout:
        raise TrackingError(
            f"{name} is still being changed by another run in {folder}: start again when it is done"
        ) from None
