"""Runs whose process is gone: found, and ended as KILLED.

A process that was killed, or whose machine lost power, cannot tell MLflow, which would show its run
as RUNNING for ever. A run is never taken from a process that is alive: on this machine that can be
seen; and of a process on another one, a heartbeat must have stood still for a while, by one clock.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import mlflow
from mlflow.entities import Run, RunTag, ViewType

from steps.tracking.heartbeat import ENDED_TAG, HEARTBEAT_TAG, OWNER_TAG, killed
from steps.tracking.journal import runs_that_wait
from steps.tracking.processes import Owner, boot, uptime

SILENCE: Final = 600.0  # seconds without a sign of life, ten heartbeats
_SUSPECTED_TAG: Final = "candlewick.suspected."  # and by which machine
_RUNS_PER_REQUEST: Final = 1000


@dataclass(frozen=True)
class DeadRun:
    """A run that is RUNNING and that no process owns."""

    run_id: str
    reason: str


def find_dead_runs(client: mlflow.MlflowClient, experiment_ids: Sequence[str]) -> list[DeadRun]:
    """Find runs that no process owns, and end none.

    Of a run on another machine this takes two looks, ten minutes apart: the first one leaves a
    mark with the run.

    Parameters
    ----------
    client : MlflowClient
    experiment_ids : sequence of str
    """
    found = []
    waiting = runs_that_wait()  # whose own word on how they ended is still to be delivered
    for run in _running(client, experiment_ids):
        owner = Owner.read(run.data.tags[OWNER_TAG])
        if owner is None or run.info.run_id in waiting:
            continue
        if owner.is_near:
            if not owner.is_alive:
                reason = f"its process (number {owner.pid} on this machine) is gone"
                found.append(DeadRun(run.info.run_id, reason))
        elif owner.was_here and _age(run) > SILENCE:
            reason = "this machine was started again since"
            found.append(DeadRun(run.info.run_id, reason))
        elif (silent := _silence(client, run)) > SILENCE:
            reason = f"its process on {owner.host} has given no sign of life for "
            found.append(DeadRun(run.info.run_id, f"{reason}{silent / 60:.0f} minutes"))
    return found


def end_dead_runs(
    client: mlflow.MlflowClient, experiment_ids: Sequence[str], *, tell: Callable[[str], None]
) -> list[str]:
    """End runs that no process owns as KILLED, with the reason; return their IDs.

    Parameters
    ----------
    client : MlflowClient
    experiment_ids : sequence of str
    tell : callable
        Told of each.
    """
    ended = []
    for dead in find_dead_runs(client, experiment_ids):
        run = client.get_run(dead.run_id)
        if run.info.status != "RUNNING":  # somebody was faster
            continue
        failure = run.data.tags.get("failure", killed(dead.reason))  # its own words count more
        tags = {ENDED_TAG: dead.reason, "failure": failure}
        client.log_batch(dead.run_id, tags=[RunTag(*each) for each in tags.items()])
        client.set_terminated(dead.run_id, "KILLED")
        tell(f"run {dead.run_id} was RUNNING, but {dead.reason}: it is now KILLED")
        ended.append(dead.run_id)
    return ended


def _running(client: mlflow.MlflowClient, experiment_ids: Sequence[str]) -> list[Run]:
    found: list[Run] = []
    token = None
    while experiment_ids:
        page = client.search_runs(
            list(experiment_ids),
            f"attributes.status = 'RUNNING' AND tags.`{OWNER_TAG}` LIKE '%'",
            run_view_type=ViewType.ACTIVE_ONLY,
            max_results=_RUNS_PER_REQUEST,
            page_token=token,
        )
        found.extend(page)
        token = page.token
        if not token:
            break
    return found


def _age(run: Run) -> float:
    """Return how many seconds old a run's heartbeat is, by the wall clock of its machine: this."""
    try:
        beat_at = datetime.fromisoformat(run.data.tags.get(HEARTBEAT_TAG, ""))
        return (datetime.now(UTC) - beat_at).total_seconds()
    except (ValueError, TypeError):
        return 0.0


def _silence(client: mlflow.MlflowClient, run: Run) -> float:
    """Return for how many seconds this machine has seen the same heartbeat of a run.

    Clocks of two machines may differ by any amount. So the time is taken between two looks by this
    machine's own, which nobody can set.
    """
    name = _SUSPECTED_TAG + boot()
    heartbeat = run.data.tags.get(HEARTBEAT_TAG, "")
    try:
        mark = json.loads(run.data.tags.get(name, "{}"))
        if mark.get("heartbeat") == heartbeat and 0 <= float(mark["since"]) <= uptime():
            return uptime() - float(mark["since"])
    except (ValueError, TypeError, KeyError, AttributeError):  # a mark that is none of ours
        pass
    client.set_tag(run.info.run_id, name, json.dumps({"heartbeat": heartbeat, "since": uptime()}))
    return 0.0
