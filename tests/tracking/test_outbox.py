"""A store that goes away while a run is going on: nothing is lost, and nothing arrives twice."""

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mlflow.xgboost
import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from mlflow.artifacts import download_artifacts
from mlflow.entities import Dataset, DatasetInput, InputTag
from services.unreliable import Mode, Unreliable, unreliable

from steps.tracking import contact
from steps.tracking.journal import left_behind, pending
from steps.tracking.left_behind import deliver_left_behind
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.model_store import load_model
from steps.tracking.sealed_models import log_saved, save_sealed

pytestmark = pytest.mark.slow

OWN_TAGS = ("candlewick.", "mlflow.", "model_uri")


@pytest.fixture
def network(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Unreliable]:
    """The way to a real server, which may fail; nobody waits long for it."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("CANDLEWICK_PATIENCE", "60")
    monkeypatch.setattr(contact, "_SOONEST", 0.0)
    monkeypatch.setattr(contact, "_LATEST", 0.0)
    monkeypatch.setattr(contact, "_POLL", 0.05)
    port = urlsplit(server).port
    assert port
    with unreliable(port) as network:
        yield network


def recorded(run_id: str, server: str, folder: Path) -> dict[str, Any]:
    """Return all that a store holds of a run, but what differs from run to run."""
    client = mlflow.MlflowClient(server)
    run = client.get_run(run_id)
    mlflow.set_tracking_uri(server)
    files = Path(download_artifacts(run_id=run_id, dst_path=str(folder / run_id)))
    models = [
        client.get_logged_model(each.model_id)
        for each in (run.outputs.model_outputs if run.outputs else ())
    ]
    return {
        "status": run.info.status,
        "params": run.data.params,
        "tags": {k: v for k, v in run.data.tags.items() if not k.startswith(OWN_TAGS)},
        "metrics": {
            name: [(point.step, repr(point.value)) for point in history(client, run_id, name)]
            for name in run.data.metrics
        },
        "inputs": [each.to_dictionary() for each in run.inputs.dataset_inputs],
        "files": {
            str(path.relative_to(files)): path.read_bytes()
            for path in files.rglob("*")
            if path.is_file()
        },
        "models": [(each.name, each.status) for each in models],
        "forecasts": [
            load_model(f"models:/{each.model_id}")[0].predict(xgb.DMatrix(EXAMPLE)).tolist()
            for each in models
        ],
    }


def history(client: mlflow.MlflowClient, run_id: str, name: str) -> list[Any]:
    return sorted(client.get_metric_history(run_id, name), key=lambda point: point.step)


EXAMPLE = pd.DataFrame(np.random.default_rng(0).random((50, 3)), columns=list("abc"))


def a_model() -> xgb.Booster:
    return xgb.train({"seed": 0}, xgb.DMatrix(EXAMPLE, EXAMPLE["a"] > 0.5), 2)


def everything(logger: MLflowLogger, folder: Path) -> Iterator[None]:
    """Log one thing of each kind; stop between any two."""
    folder.mkdir(exist_ok=True)
    (folder / "plot.png").write_bytes(bytes(range(256)))
    (folder / "deep").mkdir(exist_ok=True)
    (folder / "deep" / "é.txt").write_text("ö")
    logger.log_params(learning_rate=0.1, text="a b")
    yield
    for step in range(30):
        value = {3: float("nan"), 4: float("inf")}.get(step, 1 / (step + 1))
        logger.log_step_metrics(step, loss=value, auc=step)
        if step % 10 == 0:
            yield
    logger.log_metrics(final=0.5)
    yield
    logger.set_tags(verdict="no better than a coin")
    yield
    logger.set_tags(verdict="better")
    yield
    logger.log_artifacts(folder)
    yield
    logger.log_artifact_file(folder / "plot.png", "plots")
    yield
    logger.log_dict_artifact({"a": [1, float("nan")]}, "deep/results.json")
    yield
    dataset = Dataset("features", "abc", "run", "{}", profile="{}")
    logger.log_dataset(DatasetInput(dataset, tags=[InputTag("mlflow.data.context", "x")]))
    yield
    logger.log_model(a_model(), "first", input_example=EXAMPLE.head(2))
    yield
    logger.log_params(late=3)
    yield


@pytest.fixture(scope="module")
def undisturbed(server: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run holds that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with MLflowLogger("outbox", tracking_uri=server) as logger:
        for _ in everything(logger, folder / "plots"):
            pass
    return recorded(logger.run_id, server, folder)


@pytest.mark.parametrize("seed", range(6))
def test_a_run_through_any_outages_holds_what_an_undisturbed_one_does(
    seed: int,
    server: str,
    network: Unreliable,
    undisturbed: dict[str, Any],
    in_empty_folder: Path,
) -> None:
    chance = random.Random(seed)
    with MLflowLogger("outbox", tracking_uri=network.uri) as logger:
        for _ in everything(logger, in_empty_folder / "plots"):
            # A network that is silent costs a time-out with every request: less of that.
            network.mode = chance.choices(list(Mode), weights=(4, 4, 1, 3))[0]
    network.mode = Mode.UP
    assert not logger._contact.is_away  # which delivers what waited
    logger.flush()
    assert recorded(logger.run_id, server, in_empty_folder) == undisturbed
    assert pending() == []


def test_answers_that_are_lost_every_time_make_nothing_twice(
    server: str, network: Unreliable, undisturbed: dict[str, Any], in_empty_folder: Path
) -> None:
    with MLflowLogger("outbox", tracking_uri=network.uri) as logger:
        for _ in everything(logger, in_empty_folder / "plots"):
            network.mode = Mode.DEAF if network.mode is Mode.UP else Mode.UP
    network.mode = Mode.UP
    assert not logger._contact.is_away
    assert network.lost > 5
    assert recorded(logger.run_id, server, in_empty_folder) == undisturbed


def test_it_is_told_once_that_the_store_is_away(
    network: Unreliable, caplog: pytest.LogCaptureFixture
) -> None:
    with MLflowLogger("outbox", tracking_uri=network.uri) as logger:
        network.mode = Mode.DOWN
        for step in range(5):
            logger.log_metrics(loss=step)
            logger.set_tags(step=step)
    told = [each.getMessage() for each in caplog.records if "steps.tracking" in each.name]
    assert len(told) == 2
    assert f"{network.uri} is away (connection refused)" in told[0]
    assert f"run {logger.run_id} has ended, and what it logged is on this machine" in told[1]
    assert all("python -m steps.sync" in each for each in told)


def test_the_next_run_waits_and_finds_the_former_one_complete(
    network: Unreliable, in_empty_folder: Path
) -> None:
    with MLflowLogger("outbox", tracking_uri=network.uri) as first:
        network.mode = Mode.DOWN
        first.log_params(a=1)
    back = threading.Timer(1.0, lambda: setattr(network, "mode", Mode.UP))
    back.start()
    with MLflowLogger("outbox", tracking_uri=network.uri) as second:
        found = second.client.get_run(first.run_id)
        assert (found.info.status, found.data.params) == ("FINISHED", {"a": "1"})
    back.join()


def test_what_is_declined_of_one_run_is_nobody_elses_matter(network: Unreliable) -> None:
    with MLflowLogger("outbox", tracking_uri=network.uri) as other:
        one = MLflowLogger(tracking_uri=network.uri)
        network.mode = Mode.DOWN
        one.log_params(q=1)
        one._params.clear()  # as if it did not know
        one.log_params(q=2)
        other.log_params(a=1)
        one.end_run()
        network.mode = Mode.UP
        assert not other._contact.is_away
        assert other.client.get_run(other.run_id).data.params == {"a": "1"}
        other.set_tags(fine=True)
        assert other.client.get_run(other.run_id).data.tags["fine"] == "True"
    (left,) = pending()
    assert left.run_id == one.run_id
    assert left.entries == 2  # the second value, and the end


def test_threads_may_share_a_run(database: Path) -> None:
    with MLflowLogger("outbox", tracking_uri="sqlite:///mlflow.db") as logger:

        def log(thread: int) -> None:
            for step in range(700):
                logger.log_step_metrics(step, **{f"loss_{thread}": step})

        threads = [threading.Thread(target=log, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for number in range(3):
        found = history(logger.client, logger.run_id, f"loss_{number}")
        assert [point.step for point in found] == list(range(700))


def test_a_forked_process_leaves_its_parents_journal_alone(database: Path) -> None:
    with MLflowLogger("outbox", tracking_uri="sqlite:///mlflow.db") as logger:
        logger.log_step_metrics(0, loss=0)
        child = os.fork()
        if not child:
            logger._outbox.later(logger._metrics.place({"loss": 1}, 1))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        (path,) = [each for each in left_behind() if each != logger._outbox._journal.path]
        logger.log_step_metrics(2, loss=2)
    assert [point.step for point in history(logger.client, logger.run_id, "loss")] == [0, 2]
    deliver_left_behind(logger.client, print)
    assert [point.step for point in history(logger.client, logger.run_id, "loss")] == [0, 1, 2]
    assert not path.exists()


def test_a_model_whose_answer_got_lost_is_not_stored_again(database: Path) -> None:
    with MLflowLogger("outbox", tracking_uri="sqlite:///mlflow.db") as logger:
        save_sealed(
            mlflow.xgboost, Path("saved"), xgb_model=a_model(), pip_requirements=["xgboost"]
        )
        given = {"run_id": logger.run_id, "name": "m", "token": "abc"}
        first = log_saved(Path("saved"), **given, tried=False)
        assert log_saved(Path("saved"), **given, tried=True) == first
        assert log_saved(Path("saved"), **given | {"token": "d"}, tried=True) != first
        assert len(logger.client.get_run(logger.run_id).outputs.model_outputs) == 2
