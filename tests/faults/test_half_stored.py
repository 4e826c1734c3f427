"""Killed in the middle of an upload: what is there by half is never taken for a whole."""

import signal

import pytest
from mlflow.entities import LoggedModelStatus

from faults.cells import Losses, fault
from faults.files import stored_files
from faults.place import SOME_ROUNDS, Place, Work
from faults.rounds import check_rounds
from faults.started import Started, eventually
from steps.tracking.snapshot_store import (
    SnapshotNotFoundError,
    load_snapshot,
    resolve_snapshot,
)


def kill_in_the_middle(started: Started, work: Work) -> None:
    """Wait until the first file has arrived and the others are on their way."""
    eventually(lambda: work.is_held("upload"), started)
    started.send(signal.SIGKILL)
    started.end()


@fault("SIGKILL while a snapshot is stored")
def test_sigkill_while_a_snapshot_is_stored(place: Place, work: Work) -> None:
    featurize = work.held("steps.featurize", {"FAULTS_UPLOADS": "snapshot/:2"}, prices=place.prices)
    kill_in_the_middle(featurize, work)
    killed = work.run_of("featurize")
    assert len(stored_files(place, f"{killed.info.artifact_uri}/snapshot")) == 1
    with pytest.raises(SnapshotNotFoundError):
        resolve_snapshot(place.client, work.experiment_id)
    work.start("steps.featurize", prices=place.prices).succeed()
    killed, finished = work.runs_of("featurize")
    assert (killed.info.status, finished.info.status) == ("KILLED", "FINISHED")
    stored = resolve_snapshot(place.client, work.experiment_id)
    assert stored.run_id == finished.info.run_id
    assert load_snapshot(stored).snapshot_id == place.features.snapshot_id


@fault("SIGKILL while a model is stored")
def test_sigkill_while_a_model_is_stored(place: Place, work: Work, losses: Losses) -> None:
    assert place.undisturbed
    training = work.train({"FAULTS_UPLOADS": "models/:2"})
    kill_in_the_middle(training, work)
    evaluate = work.start("steps.evaluate", n_resamples=100)
    assert evaluate.end() == 1
    assert "this experiment has no finished train run yet" in evaluate.said[-1]
    killed = work.run_of("train")
    assert killed.info.status == "KILLED"
    assert "model_uri" not in killed.data.tags
    (model,) = place.client.search_logged_models([work.experiment_id])
    assert len(stored_files(place, model.artifact_location)) == 1
    assert model.status != LoggedModelStatus.READY
    assert work.told() == list(range(SOME_ROUNDS["n_estimators"]))
    check_rounds(place, killed, losses, work.told())
