"""featurize, train, evaluate and main as functions: what each puts into its run."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from steps.entry_point import open_step
from steps.evaluate import EvaluateParams, evaluate
from steps.featurize import FeaturizeParams, featurize
from steps.market.features import FEATURE_SETS, Feature
from steps.market.prices import load_prices
from steps.market.snapshot import SnapshotError
from steps.pipeline import MainParams, main
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.project import StepFailedError, StepRun, read_run
from steps.tracking.snapshot_store import SnapshotNotFoundError
from steps.tracking.stores import TrackingError
from steps.train import TrainParams, train

QUICK: dict[str, Any] = {"n_estimators": 8, "early_stopping_rounds": 3}


def run(step: str, function: Callable[..., object], params: Any) -> StepRun:
    with open_step(step, params) as logger:
        function(params, logger)
    return read_run(logger.client, logger.run_id)


def read_predictions(of: StepRun) -> pd.DataFrame:
    path = mlflow.artifacts.download_artifacts(f"{of.artifact_uri}/predictions.parquet")
    return pd.read_parquet(io.BytesIO(Path(path).read_bytes()))


@pytest.fixture
def small_prices(in_empty_folder: Path) -> str:
    """The last 400 days of three of the bundled stocks."""
    table = load_prices("sample").table
    some = table[table["symbol"].isin(["IBM", "MSFT", "GOOG"])]
    some.groupby("symbol").tail(400).to_parquet("prices.parquet", index=False)
    return "prices.parquet"


@pytest.fixture
def featurized(database: Path, small_prices: str) -> StepRun:
    return run("featurize", featurize, FeaturizeParams(prices=small_prices))


def test_featurize_leaves_the_snapshot_and_what_it_is_made_from(featurized: StepRun) -> None:
    manifest = featurized.read_json("snapshot/manifest.json")
    made_from = featurized.read_json("snapshot/provenance.json")
    assert manifest["symbols"] == ["GOOG", "IBM", "MSFT"]
    assert manifest["row_count"] == featurized.metrics["dataset/row_count"] == 3 * (400 - 33)
    assert featurized.metrics["dataset/labelled_row_count"] == 3 * (400 - 34)
    assert made_from["prices"] == "prices.parquet"
    assert len(made_from["prices_sha256"]) == len(made_from["code_sha256"]) == 64


def test_symbols_that_are_too_short_are_named_and_left_out(
    database: Path, small_prices: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_parquet(small_prices)
    short = table[table["symbol"] == "IBM"].tail(33).assign(symbol="TINY")
    pd.concat([table, short]).to_parquet(small_prices, index=False)
    done = run("featurize", featurize, FeaturizeParams(prices=small_prices))
    assert "warning: left out, fewer than the 34 rows needed: TINY (33)" in capsys.readouterr().out
    assert "TINY" not in done.read_json("snapshot/manifest.json")["symbols"]
    assert done.read_json("snapshot/provenance.json")["dropped_symbols"] == {"TINY": 33}


@pytest.mark.slow
@pytest.mark.parametrize(
    "model_type", ["xgboost", "logistic_regression", "random_forest", "hist_gradient_boosting"]
)
def test_every_kind_of_model_is_trained_stored_and_scored(
    featurized: StepRun, model_type: str
) -> None:
    trained = run("train", train, TrainParams(model_type=model_type, **QUICK))
    scored = run("evaluate", evaluate, EvaluateParams())
    importance = trained.read_json("feature_importance.json")
    assert len(importance) == 23
    assert sum(importance.values()) == pytest.approx(1) or set(importance.values()) == {0.0}
    assert {"train_log_loss", "validation_log_loss", "train_auc_roc"} <= set(trained.metrics)
    served = mlflow.pyfunc.load_model(trained.tags["model_uri"])
    assert served.metadata.metadata["feature_snapshot_id"] == trained.tags["feature_snapshot_id"]
    assert served.metadata.signature is not None

    # The scores, once more from the predictions, by scikit-learn alone.
    table = read_predictions(scored)
    threshold = scored.metrics["best_threshold"]
    assert scored.metrics["auc_roc"] == pytest.approx(
        roc_auc_score(table["direction"], table["probability"])
    )
    assert scored.metrics["log_loss"] == pytest.approx(
        log_loss(table["direction"].astype(int), table["probability"])
    )
    assert scored.metrics["accuracy"] == pytest.approx(
        accuracy_score(table["direction"].astype(int), table["probability"] > threshold)
    )


@pytest.mark.slow
def test_the_windows_are_recorded_and_kept_apart(featurized: StepRun) -> None:
    trained = run("train", train, TrainParams(embargo=7, **QUICK))
    split = trained.read_json("split.json")
    assert split["train"]["last_date"] < split["validation"]["first_date"]
    assert split["validation"]["last_date"] < split["test"]["first_date"]
    dates = load_prices("prices.parquet").table["date"].drop_duplicates().sort_values()
    free = dates.between(
        split["train"]["last_date"], split["validation"]["first_date"], inclusive="neither"
    )
    # the last label (one day ahead) is known before the embargo begins
    assert free.sum() == 7 + 1
    rows = {name: split[name]["rows"] for name in ("train", "validation", "test")}
    assert sum(rows.values()) + split["purged_rows"] == 3 * (400 - 34)
    assert rows["test"] == len(read_predictions(run("evaluate", evaluate, EvaluateParams())))


@pytest.mark.slow
def test_the_same_snapshot_and_parameters_predict_the_same_bits(featurized: StepRun) -> None:
    predictions = []
    for _ in range(2):
        run("train", train, TrainParams(**QUICK))
        predictions.append(read_predictions(run("evaluate", evaluate, EvaluateParams())))
    pd.testing.assert_frame_equal(*predictions, check_exact=True)


@pytest.mark.slow
def test_training_out_of_core_learns_the_same(
    featurized: StepRun, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for memory_budget in ("half", 0):
        run("train", train, TrainParams(memory_budget=memory_budget, **QUICK))
        assert ("training out of core" in capsys.readouterr().out) == (memory_budget == 0)
        found.append(read_predictions(run("evaluate", evaluate, EvaluateParams())))
    pd.testing.assert_frame_equal(*found, check_exact=True)


@pytest.mark.slow
def test_the_test_window_cannot_sway_training(database: Path, small_prices: str) -> None:
    """Prices of the test window are turned upside down: model and threshold stay the same."""
    first = run("featurize", featurize, FeaturizeParams(prices=small_prices))
    trained = run("train", train, TrainParams(**QUICK))
    start = pd.Timestamp(trained.read_json("split.json")["test"]["first_date"])
    table = pd.read_parquet(small_prices)
    late = table["date"] >= start
    rng = np.random.default_rng(1)
    factor = np.where(late, rng.uniform(0.5, 2, len(table)), 1.0)
    for name in ("open", "high", "low", "close"):
        table[name] *= factor
    table.to_parquet(small_prices, index=False)
    second = run("featurize", featurize, FeaturizeParams(prices=small_prices))
    again = run("train", train, TrainParams(**QUICK))
    assert first.tags["feature_snapshot_id"] != second.tags["feature_snapshot_id"]
    assert again.metrics["best_threshold"] == trained.metrics["best_threshold"]
    assert again.metrics["validation_log_loss"] == trained.metrics["validation_log_loss"]
    assert again.read_json("feature_importance.json") == trained.read_json(
        "feature_importance.json"
    )


@pytest.mark.slow
def test_train_names_the_parameters_a_model_does_not_use(
    featurized: StepRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run("train", train, TrainParams(model_type="logistic_regression"))
    assert "it does not use colsample_bytree" in capsys.readouterr().out


@pytest.mark.slow
def test_train_without_a_snapshot_makes_one(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = run("train", train, TrainParams(**QUICK))
    assert "no feature snapshot yet: making one" in capsys.readouterr().out
    client = mlflow.MlflowClient(f"sqlite:///{Path.cwd()}/mlflow.db")
    experiment = client.get_experiment_by_name("stock_prediction")
    children = client.search_runs(
        [experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{trained.run_id}'"
    )
    assert [child.data.tags["candlewick.step"] for child in children] == ["featurize"]
    assert children[0].data.tags["feature_snapshot_id"] == trained.tags["feature_snapshot_id"]


def test_train_with_an_unknown_id_makes_none(database: Path) -> None:
    with pytest.raises(SnapshotNotFoundError, match="no feature snapshot deadbeef"):
        run("train", train, TrainParams(feature_snapshot_id="deadbeef"))


def test_evaluate_without_a_model_says_what_to_do(database: Path) -> None:
    with pytest.raises(TrackingError, match=r"no finished train run yet: run `mlflow run . -e"):
        run("evaluate", evaluate, EvaluateParams())


def test_evaluate_refuses_a_run_of_another_step(featurized: StepRun) -> None:
    with pytest.raises(TrackingError, match="is a FINISHED featurize run, expected"):
        run("evaluate", evaluate, EvaluateParams(train_run_id=featurized.run_id))


@pytest.mark.slow
def test_evaluate_takes_another_snapshot_only_when_told_to(
    featurized: StepRun, small_prices: str
) -> None:
    trained = run("train", train, TrainParams(**QUICK))
    fewer = pd.read_parquet(small_prices).query("symbol != 'IBM'")
    fewer.to_parquet("fewer.parquet", index=False)
    other = run("featurize", featurize, FeaturizeParams(prices="fewer.parquet"))
    other_id = other.tags["feature_snapshot_id"]
    with pytest.raises(SnapshotError, match="was trained on snapshot"):
        run("evaluate", evaluate, EvaluateParams(feature_snapshot_id=other_id))
    told = EvaluateParams(feature_snapshot_id=other_id, allow_other_snapshot=True)
    scored = run("evaluate", evaluate, told)
    assert scored.tags["feature_snapshot_id"] == other_id
    assert scored.tags["trained_on_snapshot_id"] == trained.tags["feature_snapshot_id"]
    results = scored.read_json("results.json")
    assert results["train_run_id"] == trained.run_id
    assert results["test_window"]["first_date"].startswith(
        trained.read_json("split.json")["test"]["first_date"]
    )


@pytest.mark.slow
def test_evaluate_refuses_labels_of_another_horizon(featurized: StepRun, small_prices: str) -> None:
    trained = run("train", train, TrainParams(**QUICK))
    other = run("featurize", featurize, FeaturizeParams(prices=small_prices, horizon=2))
    told = EvaluateParams(
        train_run_id=trained.run_id,
        feature_snapshot_id=other.tags["feature_snapshot_id"],
        allow_other_snapshot=True,
    )
    with pytest.raises(SnapshotError, match=r"forecasts 1 trading days ahead, .* labels of 2"):
        run("evaluate", evaluate, told)


def run_main(**given: Any) -> StepRun:
    params = MainParams(**QUICK, **given)
    with open_step("main", params) as logger:
        main(params, logger)
    return read_run(logger.client, logger.run_id)


@pytest.mark.slow
def test_main_sums_up_its_children(database: Path, small_prices: str) -> None:
    parent = run_main(prices=small_prices)
    client = mlflow.MlflowClient(f"sqlite:///{Path.cwd()}/mlflow.db")
    scored = read_run(client, parent.tags["evaluate_run_id"])
    assert parent.metrics["auc_roc"] == scored.metrics["auc_roc"]
    assert parent.tags["verdict"] == scored.tags["verdict"]
    assert scored.params["train_run_id"] == parent.tags["train_run_id"]
    trained = read_run(client, parent.tags["train_run_id"])
    assert (
        parent.params["feature_snapshot_id"]
        == trained.params["feature_snapshot_id"]
        == scored.params["feature_snapshot_id"]
    )
    assert parent.tags["train_run_id"] in parent.tags["mlflow.note.content"]


@pytest.mark.slow
def test_main_reuses_features_that_verify_and_no_others(database: Path, small_prices: str) -> None:
    first = run_main(prices=small_prices)
    second = run_main(prices=small_prices)
    assert second.tags["featurize_run_id"] == first.tags["featurize_run_id"]
    assert second.tags["features_reused"] == "True"
    assert run_main(prices=small_prices, reuse="none").tags["features_reused"] == "False"
    assert run_main(prices=small_prices, horizon=2).tags["features_reused"] == "False"
    for table in Path("mlruns").rglob("features.parquet"):
        table.unlink()
    third = run_main(prices=small_prices)
    assert third.tags["features_reused"] == "False"
    assert third.params["feature_snapshot_id"] == first.params["feature_snapshot_id"]


def test_main_says_which_step_failed_and_why(database: Path, small_prices: str) -> None:
    params = MainParams(prices="nowhere.csv")
    with (
        pytest.raises(StepFailedError, match=r"^featurize: nowhere.csv"),
        open_step("main", params) as logger,
    ):
        main(params, logger)
    parent = read_run(logger.client, logger.run_id)
    assert parent.status == "FAILED"
    assert parent.tags["failed_step"] == "featurize"
    assert "nowhere.csv" in parent.tags["failure"]


def test_a_step_that_fails_half_way_leaves_no_snapshot(
    database: Path, small_prices: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are up, the run dies before the tags are set: nothing can be found."""

    def die(self: MLflowLogger, **tags: Any) -> None:
        raise OSError("the disk is full")

    params = FeaturizeParams(prices=small_prices)
    with monkeypatch.context() as patched, pytest.raises(OSError, match="disk is full"):
        patched.setattr(MLflowLogger, "set_tags", die)
        run("featurize", featurize, params)
    assert list(Path("mlruns").rglob("features.parquet"))
    with pytest.raises(SnapshotNotFoundError, match="no feature snapshot"):
        run("train", train, TrainParams(feature_snapshot_id="0" * 32))


def test_a_feature_that_looks_ahead_raises_the_alarm(
    database: Path,
    small_prices: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The alarm does not fail featurize; it is said, tagged and kept with the snapshot."""
    peek = Feature(
        name="peek",
        formula="close[t+1] / close[t] - 1",
        source="nobody",
        lookback=0,
        low=-1.0,
        high=float("inf"),
        compute=lambda bars: np.append(bars.close[1:] / bars.close[:-1] - 1.0, 0.0),
    )
    peeking = replace(FEATURE_SETS["core"], features=(*FEATURE_SETS["core"].features, peek))
    monkeypatch.setattr("steps.market.features.FEATURE_SETS", {"core": peeking})
    done = run("featurize", featurize, FeaturizeParams(prices=small_prices))
    (found,) = done.read_json("snapshot/provenance.json")["lookahead"]
    prices = pd.read_parquet(small_prices)
    close = prices[prices["symbol"] == "GOOG"].set_index("date")["close"]
    returns = (close.shift(-1) / close - 1).astype("float32")
    day = close.index[int(0.6 * 400) - 1]  # the last one before the first cut
    assert found["date"] == f"{day:%Y-%m-%d}"
    line = (
        f"LEAK SUSPECTED: feature peek of GOOG on {day:%Y-%m-%d} is {returns[day]!s}, but was 0.0 "
        "before later rows came: it looks ahead"
    )
    assert line in capsys.readouterr().out.splitlines()
    assert done.tags["leak_alarm"] == line
    assert done.status == "FINISHED"


def test_the_declared_features_raise_no_alarm(
    featurized: StepRun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert featurized.tags["leak_alarm"] == "none"
    assert featurized.read_json("snapshot/provenance.json")["lookahead"] == []
    assert "LEAK" not in capsys.readouterr().out
