"""sync: deliver what runs have logged while their store was away, and end runs that are dead."""

from __future__ import annotations

import os
import sys

from pydantic import Field

from steps.command import command, leave_with, say
from steps.entry_point import ParameterError, StepParams, parse_params
from steps.tracking.dead_runs import end_dead_runs
from steps.tracking.journal import pending, remove
from steps.tracking.left_behind import Delivered, deliver_left_behind
from steps.tracking.settings import SettingsError
from steps.tracking.stores import TrackingError, look_up

NONE = "none"


class SyncParams(StepParams):
    """Deliver what runs have logged while their store was away."""

    discard: str = Field(
        NONE, description="give up what waits of a run, by its ID, instead of delivering"
    )


def sync() -> Delivered:
    """Deliver what waits on this machine for the store in use; end its dead runs."""
    client, _ = look_up()
    found = deliver_left_behind(client, say)
    this_run = os.environ.get("MLFLOW_RUN_ID")  # of `mlflow run`, which has no owner of its own
    experiments = [each.experiment_id for each in client.search_experiments()]
    ended = [run for run in end_dead_runs(client, experiments, tell=say) if run != this_run]
    say(
        f"{found.messages} messages of {found.runs} runs delivered, {len(ended)} dead runs ended"
        + (f"; {found.live} runs deliver by themselves" if found.live else "")
        + (f"; {found.elsewhere} journals are of another store" if found.elsewhere else "")
    )
    return found


def discard(run_id: str) -> None:
    """Give up what waits of a run.

    Raises
    ------
    ParameterError
        If nothing does, or its process is alive.
    """
    of_run = [each for each in pending() if each.run_id == run_id]
    if not of_run:
        raise ParameterError(f"nothing waits of run {run_id} on this machine")
    if any(each.live for each in of_run):
        raise ParameterError(f"the process of run {run_id} is alive: end it first")
    for each in of_run:
        remove(each.path)
        say(f"run {run_id}: {each.entries} messages for {each.store} given up")


def main() -> None:
    """Be the command."""
    with command("sync", ParameterError, SettingsError, TrackingError):
        params = parse_params(SyncParams, sys.argv[1:])
        if params.discard != NONE:
            discard(params.discard)
            return
        found = sync()
    if found.refused:
        leave_with(
            f"candlewick sync failed: what {found.refused} runs have logged waits still, for the "
            "reasons above; --discard=RUN_ID gives it up",
            status=1,
        )


if __name__ == "__main__":
    main()
