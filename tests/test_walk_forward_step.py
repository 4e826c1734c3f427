"""walk_forward as a function: its folds, its runs, and what it refuses."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from end_to_end.recipe import Recorded, run_main_here
from mlflow.entities import Run
from xgboost import XGBClassifier

from steps.entry_point import open_step
from steps.learning.walk_forward import WalkForwardSplit, purged_holdout
from steps.market.build import build_snapshot
from steps.market.features import get_feature_set
from steps.market.prices import load_prices
from steps.market.snapshot import FeatureSnapshot
from steps.walk_forward import WalkForwardParams, walk_forward

pytestmark = pytest.mark.slow

QUICK: dict[str, Any] = {"n_estimators": 8, "early_stopping_rounds": 3, "n_resamples": 100}
FOLDS: dict[str, Any] = {"train_dates": 150, "test_dates": 60}


@pytest.fixture
def prices(database: Path) -> str:
    """The last 400 days of three of the bundled stocks."""
    table = load_prices("sample").table
    some = table[table["symbol"].isin(["IBM", "MSFT", "GOOG"])]
    some.groupby("symbol").tail(400).to_parquet("prices.parquet", index=False)
    return "prices.parquet"


def snapshot_of(prices: str, horizon: int = 1) -> FeatureSnapshot:
    return build_snapshot(load_prices(prices).table, get_feature_set("core"), horizon)


def walk(prices: str, horizon: int = 1, **given: Any) -> tuple[Recorded, Run]:
    """Make features and walk forward on them; return what was recorded, and the run."""
    from steps.featurize import FeaturizeParams, featurize

    making = FeaturizeParams(prices=prices, horizon=horizon)
    with open_step("featurize", making) as logger:
        stored = featurize(making, logger)
    params = WalkForwardParams(
        **{"feature_snapshot_id": stored.snapshot_id, **QUICK, **FOLDS, **given}
    )
    with open_step("walk_forward", params) as logger:
        walk_forward(params, logger)
    recorded = Recorded(Path.cwd())
    return recorded, recorded.steps("walk_forward")[-1]


def folds_of(recorded: Recorded, run: Run) -> list[Run]:
    return recorded.runs(f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")


def predictions_of(recorded: Recorded, run: Run) -> pd.DataFrame:
    return pd.read_parquet(recorded.artifacts(run) / "predictions.parquet")


def test_a_run_per_fold_below_one_run_for_all(prices: str) -> None:
    recorded, run = walk(prices)
    folds = folds_of(recorded, run)
    # 366 labelled dates less 150, in windows of 60: three whole ones and one of 36.
    assert [fold.data.params["fold"] for fold in folds] == ["1", "2", "3", "4"]
    assert {fold.data.tags["candlewick.step"] for fold in folds} == {"fold"}
    assert {fold.data.params["max_depth"] for fold in folds} == {"4"}
    assert run.data.metrics["folds"] == 4
    assert {fold.info.status for fold in (*folds, run)} == {"FINISHED"}
    predictions = predictions_of(recorded, run)
    dates = np.sort(predictions["date"].unique())
    for number, fold in enumerate(folds, 1):
        windows = json.loads((recorded.artifacts(fold) / "split.json").read_text())
        train, validation, test = (windows[name] for name in ("train", "validation", "test"))
        assert train["last_label_known_at"] < validation["first_date"]
        assert validation["last_label_known_at"] < test["first_date"]
        rows = predictions[predictions["fold"] == number]
        assert len(rows) == test["rows"] == (108 if number == 4 else 180)
        assert str(rows["date"].min().date()) == test["first_date"]
        assert fold.info.run_name.endswith(f"{test['first_date']} to {test['last_date']}")
        assert len(recorded.client.get_metric_history(fold.info.run_id, "train_log_loss")) > 1
    assert len(dates) == 366 - 150
    assert len(predictions) == 3 * len(dates)
    assert predictions.equals(predictions.sort_values(["symbol", "date"], ignore_index=True))


def test_each_forecast_is_that_of_a_model_that_saw_the_past_alone(prices: str) -> None:
    """XGBoost called by itself, on rows cut out by hand, says the same to the last bit."""
    recorded, run = walk(prices)
    found = predictions_of(recorded, run)
    snapshot = snapshot_of(prices)
    table, X = snapshot.table, snapshot.features
    splitter = WalkForwardSplit(**FOLDS, embargo=5)
    (train, test) = list(splitter.split(X, groups=table[["date", "label_known_at"]]))[1]
    begins = table["date"].iloc[test].min()
    assert (table["label_known_at"].iloc[train] < begins).all()
    fit, validation = purged_holdout(
        table["date"], table["label_known_at"], train, size=0.15, embargo=5
    )
    y = table["direction"].astype("float")
    model = XGBClassifier(
        **{name: getattr(WalkForwardParams(), name) for name in ("learning_rate", "max_depth")},
        **{"n_estimators": 8, "subsample": 0.8, "colsample_bytree": 0.8, "min_child_weight": 1},
        **{"early_stopping_rounds": 3, "eval_metric": ["auc", "logloss"], "random_state": 42},
        tree_method="hist",
    )
    model.fit(
        X.iloc[fit],
        y.iloc[fit],
        eval_set=[(X.iloc[fit], y.iloc[fit]), (X.iloc[validation], y.iloc[validation])],
        verbose=False,
    )
    expected = model.predict_proba(X.iloc[test])[:, 1]
    second = found[found["fold"] == 2]
    assert second["date"].tolist() == table["date"].iloc[test].tolist()
    assert second["probability"].tolist() == expected.astype(float).tolist()
    assert second["base_rate"].unique() == pytest.approx([y.iloc[fit].mean()])


def test_later_prices_change_no_earlier_fold(prices: str) -> None:
    recorded, run = walk(prices)
    before = predictions_of(recorded, run)
    table = pd.read_parquet(prices)
    last_days = np.sort(table["date"].unique())[-70:]
    columns = ["open", "high", "low", "close"]
    table.loc[table["date"].isin(last_days), columns] *= 3.0
    table.to_parquet("others.parquet", index=False)
    recorded, run = walk("others.parquet")
    after = predictions_of(recorded, run)
    early = before["date"] < last_days[0]
    assert early.sum() > 300
    # The last early label looks at the first changed day; the forecasts themselves do not.
    pd.testing.assert_series_equal(before["probability"][early], after["probability"][early])
    assert not before["probability"][~early].equals(after["probability"][~early])


def test_a_sliding_window_forgets(prices: str) -> None:
    recorded, run = walk(prices, window="sliding")
    folds = folds_of(recorded, run)
    windows = [
        json.loads((recorded.artifacts(fold) / "split.json").read_text())["train"] for fold in folds
    ]
    starts = [window["first_date"] for window in windows]
    assert starts == sorted(set(starts))
    assert max(window["rows"] for window in windows) <= 150 * 3


def test_labels_over_several_days_stay_apart(prices: str) -> None:
    recorded, run = walk(prices, horizon=10, embargo=0)
    for fold in folds_of(recorded, run):
        windows = json.loads((recorded.artifacts(fold) / "split.json").read_text())
        assert windows["validation"]["last_label_known_at"] < windows["test"]["first_date"]
    assert run.data.tags["leak_alarm"] == "none"


@pytest.mark.parametrize("model_type", ["logistic_regression", "hist_gradient_boosting"])
def test_other_kinds_of_model(prices: str, model_type: str) -> None:
    recorded, run = walk(prices, model_type=model_type)
    assert len(folds_of(recorded, run)) == 4
    report = (recorded.artifacts(run) / "report.html").read_text()
    assert "SHAP values are XGBoost" in report


def test_too_short_a_history_is_said_in_one_line(prices: str) -> None:
    with pytest.raises(ValueError, match="366 dates with a known label are too few") as raised:
        walk(prices, train_dates=400)
    assert "\n" not in str(raised.value)
    (run,) = Recorded(Path.cwd()).steps("walk_forward")
    assert run.info.status == "FAILED"


def test_a_fold_that_fails_is_named(prices: str) -> None:
    with pytest.raises(ValueError, match=r"^fold 1 of 4: An embargo of 140 dates"):
        walk(prices, embargo=140)


def test_a_fold_that_is_not_purged_is_stopped_at_run_time(
    prices: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steps.learning.walk_forward.purge", lambda rows, known, boundary: rows)
    with pytest.raises(RuntimeError, match="Look-ahead in the split"):
        walk(prices, horizon=5)


def test_main_has_it_as_a_child_and_the_folds_as_grandchildren(prices: str) -> None:
    run_main_here(prices=prices, walk_forward=True, **QUICK, **FOLDS)
    recorded = Recorded(Path.cwd())
    (main,) = recorded.steps("main")
    children = recorded.children(main)
    assert list(children) == ["featurize", "train", "evaluate", "walk_forward"]
    grandchildren = folds_of(recorded, children["walk_forward"])
    assert len(grandchildren) == 4
    assert main.data.tags["walk_forward_run_id"] == children["walk_forward"].info.run_id
    # Evaluate's test window was looked at by evaluate first.
    assert children["evaluate"].data.metrics["looks"] == 1
    assert children["walk_forward"].data.metrics["looks"] == 2
    verdict = children["walk_forward"].data.tags["verdict"]
    assert "after 2 looks" in verdict
    assert main.data.tags["walk_forward_verdict"] == verdict
    assert main.data.tags["walk_forward_gate"] == children["walk_forward"].data.tags["gate"]
    assert verdict in main.data.tags["mlflow.note.content"]


def test_pooled_scores_are_those_of_the_pooled_predictions(prices: str) -> None:
    from sklearn.metrics import log_loss, roc_auc_score

    recorded, run = walk(prices)
    rows = predictions_of(recorded, run)
    metrics = run.data.metrics
    came, said = rows["direction"], rows["probability"]
    ranks = rows.groupby("fold")["probability"].rank(pct=True)
    assert metrics["auc_roc"] == pytest.approx(roc_auc_score(came, ranks))
    assert metrics["base_rate/auc_roc"] == 0.5
    assert metrics["log_loss"] == pytest.approx(log_loss(came, said))
    assert metrics["accuracy"] == pytest.approx((rows["direction"] == rows["predicted"]).mean())
    base = log_loss(rows["direction"], rows["base_rate"])
    assert metrics["base_rate/log_loss"] == pytest.approx(base)
    assert metrics["log_loss_gain"] == pytest.approx(base - metrics["log_loss"])
    assert (rows["predicted"] == (rows["probability"] > rows["threshold"])).all()
    results = json.loads((recorded.artifacts(run) / "results.json").read_text())
    assert [fold["rows"] for fold in results["folds"]] == [180, 180, 180, 108]
    assert not math.isnan(results["intervals"]["auc_roc"]["low"])
