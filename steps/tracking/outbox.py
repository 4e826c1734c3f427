"""What a run logs, on its way to the store: at once where it can be, kept where it cannot."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import mlflow
from mlflow.entities import Metric

from steps.tracking.contact import Contact, is_refusal
from steps.tracking.full_disk import is_full
from steps.tracking.journal import Journal
from steps.tracking.messages import Message, deliver, merge, of_metrics, promise
from steps.tracking.stores import TrackingError, describe_store, first_line

METRICS_PER_REQUEST: Final = 1000  # MLflow's own limit
STALE_AFTER: Final = 5.0  # seconds a training curve may lag behind while a run is going on
_MESSAGES_PER_READ: Final = 1000

_log = logging.getLogger(__name__)
Result = TypeVar("Result")


class Outbox:
    """The messages of one run.

    Parameters
    ----------
    client : MlflowClient
    run_id : str
    artifact_uri : str
        Where the run's files go: that place, too, may be away.
    contact : Contact
        With the run's store.
    store : str
        The store, without passwords.
    """

    def __init__(
        self,
        client: mlflow.MlflowClient,
        run_id: str,
        artifact_uri: str,
        contact: Contact,
        store: str,
    ) -> None:
        self._client = client
        self._run_id = run_id
        self._artifact_uri = artifact_uri
        self._contact = contact
        self._store = store
        self._kept: Journal | None = None
        self._metrics = 0  # that wait, though the store is there
        self._is_closed = False
        self._process = os.getpid()
        self._sent_at = time.monotonic()
        contact.senders.append(self)

    @property
    def _journal(self) -> Journal:
        self._forget_the_parents()
        if self._kept is None:
            self._kept = Journal(self._run_id, self._store)
        return self._kept

    def _forget_the_parents(self) -> None:
        """In a forked process, leave the journal to the process that has opened it."""
        if self._process != os.getpid():
            self._kept, self._process = None, os.getpid()

    def later(self, metrics: Sequence[Metric]) -> None:
        """Take metrics that may wait for others, though not for long; they are safe from now on."""
        with self._contact.lock:
            if (
                self._metrics + len(metrics) > METRICS_PER_REQUEST
            ):  # or a few would go by themselves
                self.flush()
            self._journal.append(of_metrics(metrics))
            self._metrics += len(metrics)
            is_stale = time.monotonic() - self._sent_at > STALE_AFTER
            if self._metrics >= METRICS_PER_REQUEST or is_stale:
                self.flush()

    def send(self, message: Message) -> None:
        """Deliver a message now, or keep it where the store is away.

        Raises
        ------
        Exception
            What the store answers, where it declines.
        """

        def tell(tried: bool) -> None:
            kept = self._kept.kept_promises() if self._kept else None
            deliver(self._client, self._run_id, message, tried=tried, kept=kept)

        self.attempt(tell, instead=lambda tried: self.keep(message, tried=tried))

    def attempt(
        self, call: Callable[[bool], Result], *, instead: Callable[[bool], Result]
    ) -> Result:
        """Call after all that waits is delivered; where the store is away, do something else.

        Parameters
        ----------
        call : callable
            Told whether it is the second try: what it does may be done already.
        instead : callable
            Likewise.
        """
        with self._contact.lock:
            try:
                self.flush()
            except Exception:
                instead(False)  # behind what the store declines, but not lost
                raise
            if self._waits or self._contact.is_away:
                return instead(False)
            return self._call(call, instead)

    def _call(self, call: Callable[[bool], Result], instead: Callable[[bool], Result]) -> Result:
        try:
            return call(False)
        except Exception as error:
            if self._contact.lost(error, self._artifact_uri):
                return instead(True)
            if is_refusal(error):
                raise  # whereas anything else may have been the matter of a moment
            first = error
        try:
            return call(True)
        except Exception as error:
            if self._contact.lost(error, self._artifact_uri):
                return instead(True)
            if is_refusal(error):
                raise
            if is_full(first):
                raise TrackingError(
                    f"{describe_store(self._store)} takes no more: {first_line(first)}; make room "
                    "there, then try again"
                ) from first
            raise first from error  # what the second try met may be what the first has left

    def keep(self, message: Message, *, tried: bool = False) -> None:
        """Keep a message until the store is back."""
        with self._contact.lock:
            self._journal.harden()
            self._journal.append(message, tried=tried)

    def flush(self) -> None:
        """Deliver what waits, unless the store is away.

        Raises
        ------
        Exception
            What the store answers, where it declines.
        """
        with self._contact.lock:
            self._flush()

    def _flush(self) -> None:
        self._sent_at = time.monotonic()
        if self._contact.is_away or not self._waits:  # asking may have delivered it all
            return
        try:
            deliver_all(self._client, self._journal)
        except Exception as error:
            if self._contact.lost(error, self._artifact_uri):
                self._journal.harden()
                return
            if self._is_closed:  # nobody asks any more: the next step, or `sync`, tells of it
                self._leave()
            raise
        finally:
            self._metrics = 0
        if self._is_closed:
            self.close()

    @property
    def _waits(self) -> bool:
        self._forget_the_parents()
        return self._kept is not None and not self._kept.is_empty

    def close(self) -> None:
        """Close the journal as soon as nothing waits in it."""
        if self._waits and not self._is_closed:
            _log.warning(
                "run %s has ended, and what it logged is on this machine alone: when %s is back, "
                "`python -m steps.sync` or the next step delivers it",
                self._run_id,
                self._store,
            )
        with self._contact.lock:
            self._is_closed = True
            if not self._waits:
                self._leave()

    def _leave(self) -> None:
        if self in self._contact.senders:
            self._contact.senders.remove(self)
        if self._kept is not None:
            self._kept.close()
            self._kept = None


def deliver_all(client: mlflow.MlflowClient, journal: Journal) -> int:
    """Deliver the messages of a journal, in order; return how many there were.

    Raises
    ------
    Exception
        What the store answers, where it declines; that message and those behind it stay.
    """
    count = 0
    while waiting := list(journal.waiting(_MESSAGES_PER_READ)):
        while waiting:
            several = merge([each.message for each in waiting], METRICS_PER_REQUEST)
            batch, waiting = waiting[: max(1, several)], waiting[max(1, several) :]
            numbers = [each.number for each in batch]
            journal.trying(numbers)
            message = _joined([each.message for each in batch])
            model_uri = deliver(
                client,
                journal.run_id,
                message,
                tried=any(each.tried for each in batch),
                kept=journal.kept_promises(),
            )
            if model_uri is not None:
                promised = promise(journal.run_id, message.content["name"])
                journal.keep_promise(promised, model_uri)
            journal.delivered(numbers)
            count += len(batch)
    return count


def _joined(messages: Sequence[Message]) -> Message:
    if len(messages) == 1:
        return messages[0]
    rows = [row for each in messages for row in each.content["metrics"]]
    return Message("metrics", {"metrics": rows})
