"""sync: what a dead process left is delivered; what cannot be is named, and can be given up."""

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest

from steps import sync
from steps.entry_point import ParameterError, open_step
from steps.featurize import FeaturizeParams
from steps.tracking.heartbeat import ENDED_TAG, OWNER_TAG
from steps.tracking.journal import Journal, left_behind, pending
from steps.tracking.messages import Message, of_end, of_params
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.processes import Owner
from steps.tracking.stores import absolute_uri

pytestmark = pytest.mark.slow

STORE = "sqlite:///mlflow.db"
Run = Callable[..., subprocess.CompletedProcess[str]]


def leave(run_id: str, *messages: Message, store: str = "") -> Path:
    """Leave messages as a process does that was killed."""
    journal = Journal(run_id, store or absolute_uri(STORE))
    for message in messages:
        journal.append(message)
    journal.close()
    assert journal.path
    return journal.path


@pytest.fixture
def run_id(database: Path) -> str:
    """A run that nobody has ended."""
    return str(mlflow.MlflowClient(absolute_uri(STORE)).create_run("0").info.run_id)


def test_it_delivers(run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    leave(run_id, of_params({"a": "1"}), of_end("FINISHED", 1_700_000_000_000))
    found = sync.sync()
    assert (found.messages, found.runs, found.refused) == (2, 1, 0)
    run = mlflow.get_run(run_id)
    assert run.data.params == {"a": "1"}
    assert (run.info.status, run.info.end_time) == ("FINISHED", 1_700_000_000_000)
    assert pending() == []
    assert capsys.readouterr().out.splitlines() == [
        f"run {run_id}: 2 messages delivered, which it had left behind",
        "2 messages of 1 runs delivered, 0 dead runs ended",
    ]


def test_what_a_run_says_of_its_end_counts_more_than_what_others_saw(run_id: str) -> None:
    client = mlflow.MlflowClient(absolute_uri(STORE))
    client.set_tag(run_id, ENDED_TAG, "silent")
    client.set_tag(run_id, "failure", "Killed: silent")
    client.set_terminated(run_id, "KILLED")
    leave(run_id, of_end("FINISHED", 1))
    sync.sync()
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert {ENDED_TAG, "failure"}.isdisjoint(run.data.tags)


def test_what_the_store_declines_stays_and_keeps_nobody_else_waiting(
    run_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    client = mlflow.MlflowClient(absolute_uri(STORE))
    gone = client.create_run("0").info.run_id
    client.delete_run(gone)
    path = leave(gone, of_params({"a": "1"}))
    os.utime(path, (0, 0))  # it comes first
    leave(run_id, of_params({"b": "2"}))
    found = sync.sync()
    assert (found.messages, found.runs, found.refused) == (1, 1, 1)
    assert client.get_run(run_id).data.params == {"b": "2"}
    said = capsys.readouterr().out
    assert f"run {gone}: 1 messages wait still: " in said
    assert [each.run_id for each in pending()] == [gone]
    sync.discard(gone)
    assert capsys.readouterr().out == f"run {gone}: 1 messages for {absolute_uri(STORE)} given up\n"
    assert left_behind() == []


def test_journals_of_another_store_are_left_alone(
    run_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    leave(run_id, of_params({"a": "1"}), store="postgresql://quant:***@db.example/mlflow")
    assert sync.sync().elsewhere == 1
    assert "1 journals are of another store" in capsys.readouterr().out
    assert [each.store for each in pending()] == ["postgresql://quant:***@db.example/mlflow"]


def test_what_a_live_process_keeps_is_left_to_it(run_id: str) -> None:
    journal = Journal(run_id, absolute_uri(STORE))
    journal.append(of_params({"a": "1"}))
    assert sync.sync().live == 1
    assert mlflow.get_run(run_id).data.params == {}
    with pytest.raises(ParameterError, match="is alive"):
        sync.discard(run_id)
    with pytest.raises(ParameterError, match="nothing waits of run abc"):
        sync.discard("abc")
    journal.close()


KILLED = """
import os, signal
from steps.tracking.mlflow_logger import MLflowLogger
logger = MLflowLogger("killed")
for step in range(250):
    logger.log_step_metrics(step, loss=step)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_the_command_after_a_kill(database: Path, run_python: Run) -> None:
    assert run_python("-c", KILLED).returncode == -signal.SIGKILL
    done = run_python("-m", "steps.sync")
    assert done.returncode == 0, done.stderr
    client = mlflow.MlflowClient(absolute_uri(STORE))
    experiment = client.get_experiment_by_name("killed")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(s, s) for s in range(250)]
    assert "1 dead runs ended" in done.stdout

    leave("0" * 32, of_params({"a": "1"}))
    done = run_python("-m", "steps.sync")
    assert done.returncode == 1
    assert "candlewick sync failed: what 1 runs have logged waits still" in done.stderr
    done = run_python("-m", "steps.sync", f"--discard={'0' * 32}")
    assert done.returncode == 0, done.stderr
    assert left_behind() == []


def test_the_next_step_does_it_by_itself(database: Path) -> None:
    with MLflowLogger("stock_prediction") as first:
        pass
    leave(first.run_id, of_params({"late": "1"}))
    with open_step("featurize", FeaturizeParams()):
        pass
    assert first.client.get_run(first.run_id).data.params == {"late": "1"}


def test_a_run_with_a_journal_is_not_called_dead(run_id: str) -> None:
    client = mlflow.MlflowClient(absolute_uri(STORE))
    client.set_tag(run_id, OWNER_TAG, replace(Owner.here(), started="1").write())
    conflict = of_params({"a": "1"}), of_params({"a": "2"}), of_end("FINISHED", 1)
    leave(run_id, *conflict)
    assert sync.sync().refused == 1
    assert client.get_run(run_id).info.status == "RUNNING"
    sync.discard(run_id)
    sync.sync()
    assert client.get_run(run_id).info.status == "KILLED"


def test_a_reason_of_its_own_is_kept(run_id: str) -> None:
    client = mlflow.MlflowClient(absolute_uri(STORE))
    client.set_tag(run_id, OWNER_TAG, replace(Owner.here(), started="1").write())
    client.set_tag(run_id, "failure", "ValueError: no rows")
    sync.sync()
    assert client.get_run(run_id).data.tags["failure"] == "ValueError: no rows"
    leave(run_id, of_params({"late": "1"}))
    sync.sync()
    run = client.get_run(run_id)
    assert (run.info.status, run.data.tags["failure"]) == ("KILLED", "ValueError: no rows")
