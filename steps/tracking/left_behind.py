"""What dead processes have left: journals to deliver, and runs to end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mlflow

from steps.tracking.dead_runs import end_dead_runs
from steps.tracking.journal import Journal, JournalError, JournalInUseError, left_behind
from steps.tracking.outbox import deliver_all
from steps.tracking.settings import redact
from steps.tracking.stores import first_line

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delivered:
    """What came of delivering journals.

    Attributes
    ----------
    messages, runs : int
        How many were delivered, and of how many runs.
    refused : int
        Journals with a message that the store declines, or that cannot be read.
    elsewhere : int
        Journals of other stores.
    live : int
        Journals of processes that are alive.
    """

    messages: int
    runs: int
    refused: int
    elsewhere: int
    live: int


def deliver_left_behind(client: mlflow.MlflowClient, tell: Callable[[str], None]) -> Delivered:
    """Deliver the journals on this machine that no process owns.

    Parameters
    ----------
    client : MlflowClient
        Only journals of its store are delivered.
    tell : callable
        Told of each.
    """
    messages = runs = refused = elsewhere = live = 0
    for path in left_behind():
        try:
            journal = Journal.of(path)
        except JournalInUseError:
            live += 1
            continue
        except JournalError as error:
            refused += 1
            tell(f"a journal cannot be read: {first_line(error)}")
            continue
        try:
            waiting = len(journal)
            if not waiting:
                continue
            if journal.store != redact(client.tracking_uri):
                elsewhere += 1
                continue
            count = deliver_all(client, journal)
            tell(f"run {journal.run_id}: {count} messages delivered, which it had left behind")
            messages, runs = messages + count, runs + 1
        except Exception as error:  # of MLflow, and of whatever keeps its files
            refused += 1
            tell(f"run {journal.run_id}: {waiting} messages wait still: {first_line(error)}")
        finally:
            journal.close()
    return Delivered(messages, runs, refused, elsewhere, live)


def tidy(
    client: mlflow.MlflowClient, experiment_ids: Sequence[str], tell: Callable[[str], None]
) -> None:
    """Deliver and end what dead processes have left, as far as that goes: it stops nobody."""
    try:
        deliver_left_behind(client, tell)
        end_dead_runs(client, experiment_ids, tell=tell)
    except Exception as error:
        _log.warning("dead runs could not be looked for: %s", first_line(error))
