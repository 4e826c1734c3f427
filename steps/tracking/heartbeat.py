"""Signs of life of the runs this process owns, for those who cannot see the process."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import mlflow

from steps.tracking.processes import Owner

OWNER_TAG: Final = "candlewick.owner"
HEARTBEAT_TAG: Final = "candlewick.heartbeat"
ENDED_TAG: Final = "candlewick.ended_without_owner"
"""Marks a run that was ended because no process seemed to own it."""
INTERVAL: Final = 60.0  # seconds

_alive: dict[str, mlflow.MlflowClient] = {}
_beaten_at: dict[str, float] = {}  # by the wall clock, which goes on while a machine is asleep
_lock = threading.Lock()
_thread: threading.Thread | None = None


def signs_of_life() -> dict[str, str]:
    """Return the tags of a run that this process owns from now on."""
    return {OWNER_TAG: Owner.here().write(), HEARTBEAT_TAG: _now()}


def start_beating(client: mlflow.MlflowClient, run_id: str) -> None:
    """Show every minute that a run's process is alive, in a thread of its own."""
    global _thread
    with _lock:
        _alive[run_id] = client
        _beaten_at[run_id] = time.time()
        if _thread is None or not _thread.is_alive():  # the latter in a forked process
            _thread = threading.Thread(target=_beat_for_ever, name="heartbeat", daemon=True)
            _thread.start()


def stop_beating(run_id: str) -> None:
    """Show it no longer: the run has ended."""
    with _lock:
        _alive.pop(run_id, None)
        _beaten_at.pop(run_id, None)


def _beat_for_ever() -> None:
    never = threading.Event()
    while not never.wait(INTERVAL):
        for run_id, client in list(_alive.items()):
            with suppress(Exception):  # the store is away, or the run is gone: not this thread's
                beat(client, run_id)
                if run_id in _beaten_at:
                    _beaten_at[run_id] = time.time()


def beat(client: mlflow.MlflowClient, run_id: str) -> None:
    """Show once that a run's process is alive; take the run back where it was ended meanwhile.

    A machine that was asleep for long looks dead to the others.
    """
    client.set_tag(run_id, HEARTBEAT_TAG, _now())
    if run_id in _alive and was_taken(client, run_id):
        with _lock:  # it may be about to end, which waits for this
            if run_id in _alive:
                client.update_run(run_id, status="RUNNING")


def was_taken(client: mlflow.MlflowClient, run_id: str) -> bool:
    """Tell whether a run was ended because nobody seemed to own it; if so, wipe that off."""
    tags = client.get_run(run_id).data.tags
    if ENDED_TAG not in tags:
        return False
    if tags.get("failure") == killed(tags[ENDED_TAG]):
        client.delete_tag(run_id, "failure")
    client.delete_tag(run_id, ENDED_TAG)
    return True


def killed(reason: str) -> str:
    """Return the failure of a run that was ended because nobody seemed to own it."""
    return f"Killed: {reason}"


def has_been_asleep(run_id: str) -> bool:
    """Tell whether a run of this process has missed heartbeats: others may have ended it."""
    return time.time() - _beaten_at.get(run_id, time.time()) > 3 * INTERVAL


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
