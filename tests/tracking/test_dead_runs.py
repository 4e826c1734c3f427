"""Runs without a process are ended; a run with one never is, wherever it lives."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import mlflow
import pytest

from steps.tracking import dead_runs, heartbeat, processes
from steps.tracking.dead_runs import SILENCE, end_dead_runs, find_dead_runs
from steps.tracking.heartbeat import ENDED_TAG, HEARTBEAT_TAG, OWNER_TAG, beat
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.processes import Owner

pytestmark = pytest.mark.slow


@pytest.fixture
def logger(store: str) -> Iterator[MLflowLogger]:
    logger = MLflowLogger("dead runs", tracking_uri=store)
    yield logger
    logger.end_run()


@pytest.fixture
def a_dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def give_to(logger: MLflowLogger, owner: Owner) -> None:
    heartbeat.stop_beating(logger.run_id)  # else this process would take the run back in a minute
    logger.client.set_tag(logger.run_id, OWNER_TAG, owner.write())


def tags(logger: MLflowLogger) -> dict[str, str]:
    return dict(logger.client.get_run(logger.run_id).data.tags)


def status(logger: MLflowLogger) -> str:
    return str(logger.client.get_run(logger.run_id).info.status)


def found(logger: MLflowLogger) -> list[str]:
    dead = find_dead_runs(logger.client, [logger.experiment_id])
    return [each.reason for each in dead if each.run_id == logger.run_id]


def far_away() -> Owner:
    return replace(Owner.here(), host="node7", numbering="another boot pid:[1]", machine="other")


def test_a_live_run_says_whose_it_is(logger: MLflowLogger) -> None:
    assert Owner.read(tags(logger)[OWNER_TAG]) == Owner.here()
    assert found(logger) == []
    assert end_dead_runs(logger.client, [logger.experiment_id], tell=print) == []
    assert status(logger) == "RUNNING"


def test_a_run_whose_process_is_gone_is_ended(logger: MLflowLogger, a_dead_process: int) -> None:
    give_to(logger, replace(Owner.here(), pid=a_dead_process))
    told: list[str] = []
    ended = end_dead_runs(logger.client, [logger.experiment_id], tell=told.append)
    assert ended == [logger.run_id]
    assert status(logger) == "KILLED"
    reason = f"its process (number {a_dead_process} on this machine) is gone"
    assert tags(logger)["failure"] == f"Killed: {reason}"
    assert told == [f"run {logger.run_id} was RUNNING, but {reason}: it is now KILLED"]
    assert end_dead_runs(logger.client, [logger.experiment_id], tell=told.append) == []


def test_a_later_process_with_the_same_number_owns_nothing(logger: MLflowLogger) -> None:
    give_to(logger, replace(Owner.here(), started="1"))
    assert found(logger) == [f"its process (number {os.getpid()} on this machine) is gone"]


@pytest.mark.parametrize("owner", ["", "none of ours", "[]", '{"pid": "x"}', "[" * 100_000])
def test_a_run_with_an_owner_nobody_understands_is_left_alone(database: object, owner: str) -> None:
    with MLflowLogger("dead runs") as logger:
        logger.client.set_tag(logger.run_id, OWNER_TAG, owner[:5000])
        assert found(logger) == []


def test_a_run_of_another_tool_is_left_alone(database: object) -> None:
    client = mlflow.MlflowClient("sqlite:///mlflow.db")
    run = client.create_run("0")
    assert find_dead_runs(client, ["0"]) == []
    assert client.get_run(run.info.run_id).info.status == "RUNNING"
    assert find_dead_runs(client, []) == []


def test_of_another_machine_two_looks_without_a_heartbeat_between_them(
    logger: MLflowLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_to(logger, far_away())
    now = 1000.0
    monkeypatch.setattr(dead_runs, "uptime", lambda: now)
    assert found(logger) == []  # the first look
    now += SILENCE - 1
    assert found(logger) == []
    logger.client.set_tag(logger.run_id, HEARTBEAT_TAG, "another")
    now += 2
    assert found(logger) == []  # it beats
    now += SILENCE - 1
    assert found(logger) == []
    now += 2
    assert found(logger) == ["its process on node7 has given no sign of life for 10 minutes"]
    now = 5.0  # this machine was started again in the meantime, or somebody made the mark up
    assert found(logger) == []
    for nonsense in ("no JSON", "[]", '{"heartbeat": "another", "since": -9e99}', "null"):
        logger.client.set_tag(logger.run_id, dead_runs._SUSPECTED_TAG + processes.boot(), nonsense)
        assert found(logger) == []


def test_however_wrong_the_clock_of_a_live_machine_is(
    logger: MLflowLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_to(logger, far_away())
    logger.client.set_tag(logger.run_id, HEARTBEAT_TAG, "1999-12-31T23:59:59+00:00")
    assert found(logger) == []
    monkeypatch.setattr(dead_runs, "uptime", lambda: processes.uptime() + SILENCE - 60)
    assert found(logger) == []


def test_a_machine_that_was_started_again_has_lost_its_processes(logger: MLflowLogger) -> None:
    if not Owner.here().machine:
        pytest.skip("this machine has no identity")
    give_to(logger, replace(Owner.here(), numbering="the boot before pid:[1]"))
    assert found(logger) == []  # its twin may have been beating a moment ago
    old = datetime.now(UTC) - timedelta(seconds=SILENCE + 1)
    logger.client.set_tag(logger.run_id, HEARTBEAT_TAG, old.isoformat(timespec="seconds"))
    assert found(logger) == ["this machine was started again since"]
    give_to(logger, replace(far_away(), machine="", host=Owner.here().host))
    assert found(logger) == []


def test_a_run_that_was_ended_in_error_takes_itself_back(logger: MLflowLogger) -> None:
    # As a machine that was asleep for an hour would.
    logger.client.set_tag(logger.run_id, ENDED_TAG, "silent")
    logger.client.set_tag(logger.run_id, "failure", "Killed: silent")
    logger.client.set_terminated(logger.run_id, "KILLED")
    beat(logger.client, logger.run_id)
    assert status(logger) == "RUNNING"
    assert {"failure", ENDED_TAG}.isdisjoint(tags(logger))
    logger.end_run()
    assert status(logger) == "FINISHED"


def test_a_run_that_ended_by_itself_is_not_taken_back(logger: MLflowLogger) -> None:
    logger.end_run("FAILED")
    beat(logger.client, logger.run_id)
    assert status(logger) == "FAILED"


def test_the_heart_beats_by_itself(database: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "_thread", None)
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.01)
    times = iter(range(1_000_000))
    monkeypatch.setattr(heartbeat, "_now", lambda: str(next(times)))
    with MLflowLogger("dead runs") as logger:
        seen = {tags(logger)[HEARTBEAT_TAG]}
        while len(seen) < 3:
            seen.add(tags(logger)[HEARTBEAT_TAG])
    assert logger.run_id not in heartbeat._alive
    monkeypatch.setattr(heartbeat, "INTERVAL", 3600.0)


def test_an_owner_is_written_and_read() -> None:
    here = Owner.here()
    assert Owner.read(here.write()) == here
    assert here.is_near
    assert here.is_alive
    assert not here.was_here
    assert json.loads(here.write())["pid"] == os.getpid()
