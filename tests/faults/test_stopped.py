"""Somebody stops it while it trains: every run is closed, and no process is left."""

import signal
import sys

from mlflow.entities import Run

from faults.cells import Losses, fault
from faults.place import ENDLESS, Place, Work
from faults.rounds import check_rounds
from faults.started import eventually


def assert_stopped(run: Run, by: str) -> None:
    assert (run.info.status, run.data.tags["failure"]) == ("KILLED", f"Stopped: stopped by {by}")


def stop_pipeline(work: Work, losses: Losses, how: signal.Signals) -> None:
    place = work.place
    assert place.undisturbed
    pipeline = work.pipeline(**ENDLESS)
    eventually(lambda: len(work.told()) > 20, pipeline)
    pipeline.send(how)
    assert pipeline.end() == 128 + how
    assert pipeline.said == [f"candlewick main failed: stopped by {how.name}"]
    assert pipeline.left() == []
    assert_stopped(work.run_of("main"), how.name)
    assert_stopped(work.run_of("train"), how.name)
    assert work.run_of("featurize").info.status == "FINISHED"
    check_rounds(place, work.run_of("train"), losses, work.told())
    assert work.journals() == []


@fault("SIGTERM during training")
def test_sigterm(place: Place, work: Work, losses: Losses) -> None:
    stop_pipeline(work, losses, signal.SIGTERM)


@fault("Ctrl-C during training")
def test_ctrl_c(place: Place, work: Work, losses: Losses) -> None:
    stop_pipeline(work, losses, signal.SIGINT)


def stop_mlflow_run(work: Work, losses: Losses, how: signal.Signals) -> None:
    place = work.place
    given = {**ENDLESS, "feature_snapshot_id": place.features.snapshot_id}
    assert place.undisturbed
    command = [sys.executable, "-m", "mlflow", "run", str(place.project), "-e", "train"]
    typed = [f"-P{name}={value}" for name, value in given.items()]
    launcher = work.begin([*command, "--env-manager", "local", *typed], place.variables)

    def is_training() -> bool:
        # Every few seconds the store hears of the rounds so far.
        return any("train_log_loss" in run.data.metrics for run in work.runs_of("train"))

    eventually(is_training, launcher)
    assert len(launcher.left()) > 1
    launcher.send(how)
    assert launcher.end() == -how
    eventually(lambda: launcher.left() == [])
    assert "candlewick train failed: stopped by SIGTERM" in launcher.said
    run = work.run_of("train")
    assert_stopped(run, "SIGTERM")
    check_rounds(place, run, losses)
    assert work.journals() == []


@fault("SIGTERM to mlflow run, its step training")
def test_sigterm_to_mlflow_run(place: Place, work: Work, losses: Losses) -> None:
    stop_mlflow_run(work, losses, signal.SIGTERM)


@fault("SIGKILL to mlflow run, its step training", sampled=["sqlite"])
def test_sigkill_to_mlflow_run(place: Place, work: Work, losses: Losses) -> None:
    stop_mlflow_run(work, losses, signal.SIGKILL)
