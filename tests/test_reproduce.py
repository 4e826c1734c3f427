"""reproduce: what it finds of runs that are as they were, and of runs that were tampered with."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import xgboost

from steps.entry_point import open_step
from steps.featurize import FeaturizeParams, featurize
from steps.market.prices import load_prices
from steps.provenance import code_sha256, environment
from steps.reproduce import NotReproducedError, ReproduceParams, reproduce
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.project import (
    COPY_TAG,
    STEP_TAG,
    StepFailedError,
    StepNotStartedError,
    StepRun,
    find_step_run,
    launch_step,
    metric_histories,
    read_run,
)
from steps.tracking.stores import TrackingError
from steps.train import TrainParams, train

QUICK: dict[str, Any] = {"n_estimators": 8, "early_stopping_rounds": 3}
OTHER_CODE = "0" * 64


def run(step: str, function: Callable[..., object], params: Any) -> StepRun:
    with open_step(step, params) as logger:
        function(params, logger)
    return read_run(logger.client, logger.run_id)


@pytest.fixture
def client(database: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{database}")


@pytest.fixture
def featurized(client: mlflow.MlflowClient) -> StepRun:
    """A snapshot of the last 400 days of three of the bundled stocks."""
    table = load_prices("sample").table
    some = table[table["symbol"].isin(["IBM", "MSFT", "GOOG"])]
    some.groupby("symbol").tail(400).to_parquet("prices.parquet", index=False)
    return run("featurize", featurize, FeaturizeParams(prices="prices.parquet"))


@pytest.fixture
def trained(featurized: StepRun) -> StepRun:
    return run("train", train, TrainParams(**QUICK))


def reproduced(of: StepRun) -> StepRun:
    return run("reproduce", reproduce, ReproduceParams(run_id=of.run_id))


def not_reproduced(client: mlflow.MlflowClient, of: StepRun) -> tuple[str, StepRun]:
    """Return what was said, and the run that failed."""
    params = ReproduceParams(run_id=of.run_id)
    with (
        pytest.raises(NotReproducedError) as caught,
        open_step("reproduce", params) as logger,
    ):
        reproduce(params, logger)
    failed = read_run(client, logger.run_id)
    assert failed.status == "FAILED"
    assert failed.tags["reproduced"] == "false"
    assert failed.tags["reproduced_run_id"] == of.run_id
    assert failed.tags["failure"] == f"NotReproducedError: {caught.value}"[:500]
    assert failed.read_json("reproduction.json")["sentence"] == str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value), failed


def change_environment(of: StepRun, **versions: str) -> None:
    path = Path(of.artifact_uri.removeprefix("file://")) / "environment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | versions))


def features_of(snapshot: StepRun) -> pd.DataFrame:
    """The labelled rows' features, as they lie in the artifact."""
    path = Path(snapshot.artifact_uri.removeprefix("file://")) / "snapshot" / "features.parquet"
    table = pd.read_parquet(path)
    table = table[table["direction"].notna()]
    return table.drop(columns=["date", "symbol", "direction", "label_known_at"])


@pytest.mark.slow
def test_the_newest_training_is_reproduced_bit_by_bit(
    client: mlflow.MlflowClient, trained: StepRun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained.tags["code_sha256"] == code_sha256()
    assert trained.read_json("environment.json") == environment()
    done = run("reproduce", reproduce, ReproduceParams())
    copy = read_run(client, done.tags["copy_run_id"])
    assert done.tags["reproduced"] == "true"
    assert done.tags["reproduced_run_id"] == trained.run_id
    assert done.tags["differences"] == "none"
    assert done.tags["feature_snapshot_id"] == trained.tags["feature_snapshot_id"]
    assert copy.tags["mlflow.parentRunId"] == done.run_id
    assert copy.tags[COPY_TAG] == trained.run_id
    assert copy.params == trained.params
    assert copy.tags["model_uri"] != trained.tags["model_uri"]

    rounds = len(client.get_metric_history(trained.run_id, "validation_log_loss"))
    split = trained.read_json("split.json")
    sentence = (
        f"bit-identical: {split['train']['rows']:,} training rows, {rounds} rounds, "
        f"{3 * (400 - 34):,} predictions, {len(trained.metrics)} metrics"
    )
    said = capsys.readouterr().out.splitlines()
    assert said[-3:] == [f"original  {trained.run_id}", f"copy      {copy.run_id}", sentence]
    told = done.read_json("reproduction.json")
    assert told["reproduced"] is True
    assert told["sentence"] == sentence
    assert told["original"]["run_id"] == trained.run_id
    assert told["copy"]["code_from"] == "the current code"
    assert told["compared"]["differing_rows"] == 0
    assert set(told["compared"]["metrics"]) == set(trained.metrics)

    # A copy is a training run, but never the newest one.
    here = client.get_run(trained.run_id).info.experiment_id
    assert find_step_run(client, here, "train", "latest").run_id == trained.run_id
    assert find_step_run(client, here, "train", copy.run_id).run_id == copy.run_id


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "more"),
    [
        ("logistic_regression", {"random_state": 7}),
        # Its threads add up the trees in any order, so with several even the scores may differ.
        ("random_forest", {"n_jobs": 1, "max_depth": 9}),
        ("hist_gradient_boosting", {"early_stopping_rounds": 0}),
        ("xgboost", {"early_stopping_rounds": 0, "subsample": 0.5, "validation_size": 0.07}),
    ],
)
def test_every_kind_of_model_is_reproduced(
    featurized: StepRun, model_type: str, more: dict[str, Any]
) -> None:
    given = TrainParams(model_type=model_type, **QUICK | more)
    done = reproduced(run("train", train, given))
    assert done.tags["reproduced"] == "true"
    assert ("8 rounds" in done.read_json("reproduction.json")["sentence"]) == (
        model_type in ("hist_gradient_boosting", "xgboost")
    )


@pytest.mark.slow
def test_a_model_that_was_trained_otherwise_is_found_out(
    client: mlflow.MlflowClient, featurized: StepRun, trained: StepRun
) -> None:
    other = run("train", train, TrainParams(random_state=43, **QUICK))
    for name in ("model_uri", "feature_model_uri"):
        client.set_tag(trained.run_id, name, other.tags[name])
    change_environment(trained, xgboost="3.1.0", python="3.10.1")
    said, failed = not_reproduced(client, trained)

    # The count and the largest difference, once more, by xgboost alone.
    rows = xgboost.DMatrix(features_of(featurized))
    copy = read_run(client, failed.tags["copy_run_id"])
    one, two = (
        mlflow.xgboost.load_model(each.tags["feature_model_uri"]).predict(rows).astype(float)
        for each in (read_run(client, trained.run_id), copy)
    )
    count, largest = int((one != two).sum()), np.abs(one - two).max()
    assert count > 500
    now = environment()
    changed = f"python 3.10.1 -> {now['python']}", f"xgboost 3.1.0 -> {now['xgboost']}"
    assert said == (
        f"NOT identical: predictions differ in {count:,} of 1,098 rows, by up to {largest:.3g}; "
        f"what differs: {', '.join(changed)}"
    )
    assert failed.tags["differences"] == "; ".join(changed)
    told = failed.read_json("reproduction.json")
    assert told["compared"]["differing_rows"] == count
    assert told["compared"]["largest_difference"] == largest
    assert told["compared"]["differing_metrics"] == []
    assert told["original"]["environment"]["xgboost"] == "3.1.0"


@pytest.mark.slow
def test_metrics_and_files_that_differ_are_named_with_nothing_to_blame(
    client: mlflow.MlflowClient, trained: StepRun
) -> None:
    client.log_metric(trained.run_id, "train_auc_roc", 0.75, step=2)
    client.log_metric(trained.run_id, "system/cpu_utilization_percentage", 12.5)
    client.log_dict(trained.run_id, {"rsi_14": 1.0}, "feature_importance.json")
    said, failed = not_reproduced(client, trained)
    assert said == (
        f"NOT identical: 1 of {len(trained.metrics)} metrics differ (train_auc_roc); "
        "feature_importance.json differs; "
        "what differs: nothing that is recorded, so look at the processors"
    )
    assert failed.tags["differences"] == "none"


@pytest.mark.slow
def test_another_library_is_named_even_where_it_makes_no_difference(trained: StepRun) -> None:
    change_environment(trained, scipy="0.9")
    done = reproduced(trained)
    assert done.tags["reproduced"] == "true"
    assert done.tags["differences"] == f"scipy 0.9 -> {environment()['scipy']}"
    sentence = done.read_json("reproduction.json")["sentence"]
    assert sentence.endswith(f"; what differs: scipy 0.9 -> {environment()['scipy']}")


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["gone", "changed", "deleted run"])
def test_without_the_data_nothing_is_trained(
    client: mlflow.MlflowClient, featurized: StepRun, trained: StepRun, harm: str
) -> None:
    path = Path(featurized.artifact_uri.removeprefix("file://")) / "snapshot" / "features.parquet"
    if harm == "gone":
        path.unlink()
    elif harm == "changed":
        table = pd.read_parquet(path)
        table.loc[5, "direction"] = 1 - table.loc[5, "direction"]
        table.to_parquet(path, index=False)
    else:
        client.delete_run(featurized.run_id)
    said, failed = not_reproduced(client, trained)
    assert said.startswith("NOT reproduced: the data is what differs: ")
    assert trained.tags["feature_snapshot_id"] in said
    assert failed.tags["differences"] == "snapshot"
    assert "copy_run_id" not in failed.tags


@pytest.mark.slow
def test_code_without_a_commit_gives_way_to_the_current_code(
    client: mlflow.MlflowClient, trained: StepRun, capsys: pytest.CaptureFixture[str]
) -> None:
    client.set_tag(trained.run_id, "code_sha256", OTHER_CODE)
    if "mlflow.source.git.commit" in trained.tags:  # depends on where pytest lies
        client.delete_tag(trained.run_id, "mlflow.source.git.commit")
    done = reproduced(trained)
    assert done.tags["reproduced"] == "true"
    why = "that of then is not to be had: no commit was recorded"
    assert done.tags["differences"] == f"code ({why})"
    assert "(no commit was recorded): training with the current code" in capsys.readouterr().out
    assert done.read_json("reproduction.json")["copy"]["code_from"] == "the current code"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("commit", "why"),
    [
        ("f" * 40, "commit fffffff is not in this repository; it"),
        ("--output=x", "'--output=x' is no commit ID"),
    ],
)
def test_a_commit_that_is_nowhere(
    client: mlflow.MlflowClient, trained: StepRun, commit: str, why: str
) -> None:
    """Code of an address that a stored run names, and nobody here has vouched for, is not run."""
    for name, value in {
        "code_sha256": OTHER_CODE,
        "mlflow.source.git.commit": commit,
        "mlflow.source.name": "https://quant:s3cret@127.0.0.1:9/recipe.git#sub",
    }.items():
        client.set_tag(trained.run_id, name, value)
    done = reproduced(trained)
    assert done.tags["reproduced"] == "true"
    assert why in done.tags["differences"]
    assert done.tags["differences"].endswith(
        "it was run from https://quant:***@127.0.0.1:9/recipe.git#sub)"
    )


@pytest.mark.slow
def test_a_run_from_before_code_and_environment_were_recorded(
    client: mlflow.MlflowClient, trained: StepRun
) -> None:
    client.delete_tag(trained.run_id, "code_sha256")
    (Path(trained.artifact_uri.removeprefix("file://")) / "environment.json").unlink()
    done = reproduced(trained)
    assert done.tags["reproduced"] == "true"
    assert done.tags["differences"] == (
        "code (its hash was not recorded); environment (it was not recorded)"
    )


@pytest.mark.slow
def test_parameters_as_they_were_typed_and_those_nobody_knows_any_more(
    client: mlflow.MlflowClient, featurized: StepRun
) -> None:
    """As `mlflow run` records them: typed, and quoted for the shell."""
    typed = {"learning_rate": "0.10", "device": "'cpu'", "n_estimators": "8", "old_one": "3"}
    params = TrainParams(learning_rate=0.1, n_estimators=8)
    with MLflowLogger(tags={STEP_TAG: "train"}) as logger:
        logger.log_params(**typed, feature_snapshot_id="latest")
        train(params, logger)
    done = reproduced(read_run(client, logger.run_id))
    assert done.tags["reproduced"] == "true"
    copy = read_run(client, done.tags["copy_run_id"])
    assert copy.params["learning_rate"] == "0.1"
    assert copy.params["feature_snapshot_id"] == featurized.tags["feature_snapshot_id"]
    lines = done.tags["differences"].split("; ")
    assert lines[0] == "parameter old_one 3 -> not recorded"
    assert "parameter max_depth not recorded -> 4" in lines
    assert not [line for line in lines if "learning_rate" in line or "device" in line]


@pytest.mark.slow
def test_a_copy_that_cannot_be_trained_says_why(
    client: mlflow.MlflowClient, featurized: StepRun
) -> None:
    with MLflowLogger(tags={STEP_TAG: "train"}) as logger:
        logger.log_params(learning_rate="7")
        train(TrainParams(**QUICK), logger)
    params = ReproduceParams(run_id=logger.run_id)
    with (
        pytest.raises(StepFailedError, match=r"^train: learning_rate='7': input should be less"),
        open_step("reproduce", params) as reproducing,
    ):
        reproduce(params, reproducing)
    assert read_run(client, reproducing.run_id).tags["reproduced"] == "false"


def tagged(step: str, **tags: str) -> MLflowLogger:
    with MLflowLogger(tags={STEP_TAG: step, **tags}) as logger:
        pass
    return logger


def test_a_run_that_is_none_of_training(database: Path) -> None:
    for step, expected in (("featurize", "FINISHED featurize"), ("main", "FINISHED main")):
        params = ReproduceParams(run_id=tagged(step).run_id)
        with (
            pytest.raises(TrackingError, match=f"is a {expected} run, expected a FINISHED train"),
            open_step("reproduce", params) as logger,
        ):
            reproduce(params, logger)
    for run_id, said in (("latest", "no finished train run yet"), ("deadbeef", "there is no run")):
        params = ReproduceParams(run_id=run_id)
        with (
            pytest.raises(TrackingError, match=said) as caught,
            open_step("reproduce", params) as logger,
        ):
            reproduce(params, logger)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["evaluate", "main"])
def test_the_run_that_scored_a_model_leads_to_its_training(trained: StepRun, step: str) -> None:
    run("train", train, TrainParams(**QUICK | {"n_estimators": 2}))  # the newest is another
    later = tagged(step, train_run_id=trained.run_id)
    done = run("reproduce", reproduce, ReproduceParams(run_id=later.run_id))
    assert done.tags["reproduced_run_id"] == trained.run_id
    assert done.params["run_id"] == later.run_id


@pytest.mark.slow
def test_histories_are_whole_and_in_order(client: mlflow.MlflowClient, database: Path) -> None:
    with MLflowLogger() as logger:
        for step in (2, 0, 1):
            logger.log_step_metrics(step, loss=step / 4)
        logger.log_metrics(loss=1.0, nothing=float("nan"))
    found = metric_histories(client, read_run(client, logger.run_id))
    assert found["loss"] == [(0, 0.0), (1, 0.25), (2, 0.5), (3, 1.0)]
    assert np.isnan(found["nothing"][0][1])


@pytest.mark.slow
def test_a_copy_that_is_launched_is_one_from_its_start(
    client: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code that knows nothing of copies notes what its run is when it starts."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "MLproject").write_text(
        "name: old\nentry_points: {train: {command: python train.py}}\n"
    )
    (tmp_path / "train.py").write_text(
        "import json, mlflow\n"
        "with mlflow.start_run() as run:\n"
        "    json.dump(run.data.tags, open('tags.json', 'w'))\n"
    )
    source = {"mlflow.source.name": "https://git.example/recipe.git"}
    with MLflowLogger(tags={STEP_TAG: "reproduce", "mlflow.source.git.branch": "main"}) as logger:
        tags = {**source, COPY_TAG: "a" * 32}
        run_id = launch_step(logger, "train", {}, uri=str(tmp_path), tags=tags)
    found = json.loads((tmp_path / "tags.json").read_text())
    expected = {**tags, STEP_TAG: "train", "mlflow.parentRunId": logger.run_id}
    assert {name: found.get(name) for name in expected} == expected
    assert "mlflow.source.git.branch" not in found
    copy = client.get_run(run_id)
    assert (copy.info.status, copy.info.run_name) == ("FINISHED", "train")
    assert copy.info.user_id == client.get_run(logger.run_id).info.user_id
    with pytest.raises(TrackingError, match="no finished train run"):
        find_step_run(client, logger.experiment_id, "train", "latest")


def test_a_copy_whose_project_has_no_such_step_is_a_failed_run(
    client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    with (
        MLflowLogger(tags={STEP_TAG: "reproduce"}) as logger,
        pytest.raises(StepNotStartedError, match="train") as caught,
    ):
        launch_step(logger, "train", {}, uri=str(tmp_path), tags={COPY_TAG: "a" * 32})
    (child,) = client.search_runs(
        [logger.experiment_id], f"tags.`mlflow.parentRunId` = '{logger.run_id}'"
    )
    assert child.info.status == "FAILED"
    assert child.data.tags["failure"] == str(caught.value)
    assert child.data.tags[COPY_TAG] == "a" * 32
