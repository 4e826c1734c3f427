"""Steps as runs: their tags, finding one, and launching one as a project run of its own."""

import os
import sys
from pathlib import Path

import mlflow
import pytest

from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.project import (
    STEP_TAG,
    NotRecordedError,
    StepFailedError,
    find_evaluation,
    find_step_run,
    launch_step,
    read_run,
    step_tags,
)
from steps.tracking.stores import TrackingError, absolute_uri

pytestmark = pytest.mark.slow

STORE = "sqlite:///mlflow.db"
FROM_MLFLOW_RUN = {
    "mlflow.source.name": "https://git.example/candlewick",
    "mlflow.source.git.commit": "c0ffee",
    "mlflow.project.env": "local",
    "mlflow.project.backend": "local",
}


def finish(step: str, **metrics: float) -> MLflowLogger:
    with MLflowLogger("steps", run_name=step, tags={STEP_TAG: step}) as logger:
        logger.log_params(seed=1)
        logger.log_metrics(**metrics)
    return logger


def test_a_step_inherits_what_mlflow_run_needs_to_run_it_again(database: Path) -> None:
    named = {"mlflow.project.entryPoint": "train", STEP_TAG: "train"}
    assert step_tags("train") == named
    tags = {**FROM_MLFLOW_RUN, "mlflow.project.entryPoint": "main", "team": "quant"}
    with (
        MLflowLogger("steps", tracking_uri=STORE, tags=tags) as main,
        MLflowLogger(tags=step_tags("train")) as train,
    ):
        pass
    found = main.client.get_run(train.run_id).data.tags
    assert (FROM_MLFLOW_RUN | named).items() <= found.items()
    assert "team" not in found


def test_the_latest_finished_run_of_a_step(database: Path) -> None:
    first, second = finish("train", auc=0.5), finish("train", auc=0.6)
    finish("evaluate")
    client, here = second.client, second.experiment_id
    with pytest.raises(RuntimeError), MLflowLogger("steps", tags={STEP_TAG: "train"}) as failed:
        assert find_step_run(client, here, "train", "latest").run_id == second.run_id
        raise RuntimeError("late")
    found = find_step_run(client, here, "train", "latest")
    assert found.run_id == second.run_id
    assert (found.status, found.params, found.metrics) == ("FINISHED", {"seed": "1"}, {"auc": 0.6})
    assert find_step_run(client, here, "train", first.run_id).metrics == {"auc": 0.5}
    client.delete_run(second.run_id)
    assert find_step_run(client, here, "train", "latest").run_id == first.run_id

    with pytest.raises(TrackingError, match=r"no finished predict run yet: run `mlflow run \. -e"):
        find_step_run(client, here, "predict", "latest")
    with pytest.raises(TrackingError, match="is a FINISHED train run, expected a FINISHED evalu"):
        find_step_run(client, here, "evaluate", first.run_id)
    with pytest.raises(TrackingError, match="is a FAILED train run, expected a FINISHED train"):
        find_step_run(client, here, "train", failed.run_id)
    for unknown in ("0" * 32, "newest", "a'b"):
        with pytest.raises(NotRecordedError, match=f'no run {unknown!r}|no run "{unknown}"'):
            find_step_run(client, here, "train", unknown)


def test_the_newest_evaluation_of_a_training_run_wherever_it_is(database: Path) -> None:
    def evaluate(experiment: str, train_run_id: str, snapshot_id: str, step: str) -> MLflowLogger:
        tags = {STEP_TAG: step, "train_run_id": train_run_id, "feature_snapshot_id": snapshot_id}
        with MLflowLogger(experiment, tags=tags) as logger:
            return logger

    first = evaluate("steps", "t1", "abc", "evaluate")
    client = first.client
    assert find_evaluation(client, "t2", "abc") is None
    second = evaluate("elsewhere", "t1", "abc", "evaluate")
    evaluate("steps", "t1", "def", "evaluate")
    evaluate("steps", "t2", "abc", "evaluate")
    evaluate("steps", "t1", "abc", "monitor")
    with pytest.raises(RuntimeError), MLflowLogger("steps", tags=second.tags):
        raise RuntimeError
    found = find_evaluation(client, "t1", "abc")
    assert found is not None
    assert found.run_id == second.run_id
    client.delete_run(second.run_id)
    found = find_evaluation(client, "t1", "abc")
    assert found is not None
    assert found.run_id == first.run_id


def test_a_store_that_does_not_answer_is_not_taken_for_a_missing_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    client = mlflow.MlflowClient("http://127.0.0.1:1")
    asked = "a" * 32
    with pytest.raises(TrackingError, match=f"asked for run {asked} and refused: .*127") as caught:
        read_run(client, asked)
    assert not isinstance(caught.value, NotRecordedError)


def test_a_run_without_a_step_is_another_one(database: Path) -> None:
    with MLflowLogger("steps") as logger:
        pass
    with pytest.raises(TrackingError, match="is a FINISHED other run, expected a FINISHED train"):
        find_step_run(logger.client, logger.experiment_id, "train", logger.run_id)


def test_a_steps_files_are_read_or_missed_by_name(database: Path) -> None:
    with MLflowLogger("steps", tracking_uri=STORE) as logger:
        logger.log_dict_artifact({"auc": 0.5, "kind": "ü"}, "report/scores.json")
        Path("list.json").write_text("{")
        logger.log_artifact_file("list.json")
        run = read_run(logger.client, logger.run_id)
        assert run.read_json("report/scores.json") == {"auc": 0.5, "kind": "ü"}
        for name in ("gone.json", "list.json"):
            with pytest.raises(NotRecordedError, match=rf"has lost its {name}: run the step again"):
                run.read_json(name)


@pytest.mark.slow
def test_a_step_as_a_project_run_below_the_active_one(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    source = {"mlflow.source.name": "https://git.example/candlewick"}
    with MLflowLogger("steps", tracking_uri=STORE, tags=source) as main:
        run_id = launch_step(main, "featurize", {"horizon": 5})
        with pytest.raises(StepFailedError, match="horizon") as caught:
            launch_step(main, "featurize", {"horizon": 0})
        assert mlflow.active_run().info.run_id == main.run_id
    client = mlflow.MlflowClient(absolute_uri(STORE))
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "featurize"
    assert run.data.params["horizon"] == "5"
    assert run.data.tags["mlflow.parentRunId"] == main.run_id
    assert run.data.tags["mlflow.source.name"] == source["mlflow.source.name"]
    assert run.data.tags["feature_snapshot_id"]
    children = client.search_runs(
        [main.experiment_id], f"tags.`mlflow.parentRunId` = '{main.run_id}'"
    )
    (failed,) = (child for child in children if child.info.run_id != run_id)
    assert failed.info.status == "FAILED"
    assert str(caught.value) == failed.data.tags["failure"]
