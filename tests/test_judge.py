"""What judging leaves with a run: looks, alarm, gate, report; each leak planted once."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from end_to_end.recipe import Recorded
from mlflow.entities import Run

from steps.entry_point import open_step
from steps.evaluate import EvaluateParams, evaluate
from steps.featurize import FeaturizeParams, featurize
from steps.judge import ends, score_table
from steps.learning.bootstrap import Interval
from steps.market.features import FEATURE_SETS, Feature
from steps.market.prices import load_prices
from steps.tracking.mlflow_logger import MLflowLogger
from steps.train import TrainParams, train

QUICK: dict[str, Any] = {"n_estimators": 8, "early_stopping_rounds": 3}
JUDGING: dict[str, Any] = {"n_resamples": 100}


@pytest.fixture
def prices(database: Path) -> str:
    table = load_prices("sample").table
    some = table[table["symbol"].isin(["IBM", "MSFT", "GOOG"])]
    some.groupby("symbol").tail(400).to_parquet("prices.parquet", index=False)
    return "prices.parquet"


def do(step: str, function: Any, params: Any) -> Run:
    with open_step(step, params) as logger:
        function(params, logger)
    return logger.client.get_run(logger.run_id)


def judged(prices: str = "", horizon: int = 1, **given: Any) -> Run:
    """Make features where prices are given, train on the newest, evaluate."""
    if prices:
        do("featurize", featurize, FeaturizeParams(prices=prices, horizon=horizon))
    training = {name: given.pop(name) for name in list(given) if name in TrainParams.model_fields}
    do("train", train, TrainParams(**{**QUICK, **training}))
    return do("evaluate", evaluate, EvaluateParams(**{**JUDGING, **given}))


def results_of(run: Run) -> dict[str, Any]:
    path = Recorded(Path.cwd()).artifacts(run) / "results.json"
    return dict(json.loads(path.read_text()))


def test_ends_are_written_plainly() -> None:
    def interval(low: float, high: float) -> Interval:
        return Interval(0.5, low, high, 0.9, 10, 100)

    assert ends(interval(-0.00004, 0.5), 3) == "0.000 to 0.500"
    assert ends(interval(float("nan"), float("nan")), 3) == "-"
    baselines = {"base_rate": {"accuracy": 0.51}, "persistence": {"accuracy": float("nan")}}
    told = score_table({"accuracy": interval(0.4, 0.6)}, baselines).splitlines()
    assert told[0].split() == ["model", "90", "%", "interval", "base_rate", "persistence"]
    assert told[1].split() == ["accuracy", "0.5000", "0.4000", "to", "0.6000", "0.5100", "NaN"]


@pytest.mark.slow
def test_every_headline_has_an_interval_and_a_baseline(prices: str) -> None:
    metrics = judged(prices).data.metrics
    for name in (
        *("accuracy", "precision", "recall", "f1", "auc_roc", "log_loss", "brier_score"),
        *("ic", "icir", "rank_ic", "rank_icir", "sharpe"),
    ):
        assert metrics[f"{name}_low"] <= metrics[name] <= metrics[f"{name}_high"], name
    for baseline in ("base_rate", "persistence"):
        assert f"{baseline}/log_loss" in metrics
    assert {"sortino", "max_drawdown", "turnover", "hit_rate", "exposure"} < metrics.keys()
    assert metrics["sharpe_gain"] == pytest.approx(
        metrics["sharpe"] - metrics["buy_and_hold_sharpe"]
    )


@pytest.mark.slow
def test_looks_are_counted_and_the_figures_deflated(prices: str) -> None:
    first = judged(prices)
    assert first.data.metrics["looks"] == 1
    assert "looks" not in first.data.tags["verdict"]
    assert "deflated_sharpe_ratio" not in first.data.metrics
    again = judged()  # the same model again: the same forecasts
    assert again.data.metrics["looks"] == 1
    second = judged(max_depth=2, learning_rate=0.3)
    assert second.data.metrics["looks"] == 2
    assert "after 2 looks at this test window" in second.data.tags["verdict"]
    assert second.data.metrics["auc_roc_low_deflated"] < second.data.metrics["auc_roc_low"]
    assert 0 <= second.data.metrics["deflated_sharpe_ratio"] <= 1
    condition = results_of(second)["gate"]["conditions"][0]
    assert condition["found"].startswith("AUC's lower end after 2 looks")


@pytest.mark.slow
def test_labels_that_overlap_the_test_raise_the_alarm(
    prices: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A split that forgets to purge, and a check that looks away: evaluate notices all the same."""
    monkeypatch.setattr("steps.learning.splits.purge", lambda rows, known, boundary: rows)
    monkeypatch.setattr("steps.learning.splits.check_no_leak", lambda *_: None)
    run = judged(prices, horizon=10)
    assert run.data.tags["leak_alarm"].startswith("LEAK SUSPECTED: the last label of train was")
    assert run.data.tags["gate"] == "REJECTED"
    assert "no_leak" in run.data.tags["gate_failed"]
    assert "LEAK SUSPECTED: the last label of validation was known on" in capsys.readouterr().out
    report = (Recorded(Path.cwd()).artifacts(run) / "report.html").read_text()
    assert "LEAK SUSPECTED" in report
    assert "the last label of train was known on" in report


@pytest.mark.slow
def test_a_feature_that_peeks_raises_the_alarm_three_times_over(
    prices: str, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    run = judged(prices)
    kinds = {each["kind"] for each in results_of(run)["leak_alarm"]}
    assert kinds == {"auc", "feature", "lookahead"}
    assert run.data.tags["gate_failed"] == "no_leak"


@pytest.mark.slow
def test_without_returns_in_the_snapshot_there_is_no_backtest(
    prices: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = FEATURE_SETS["core"]
    kept = tuple(each for each in core.features if each.name not in ("overnight_return",))
    monkeypatch.setattr(
        "steps.market.features.FEATURE_SETS", {"core": replace(core, features=kept)}
    )
    run = judged(prices)
    assert "sharpe" not in run.data.metrics
    assert "ic" not in run.data.metrics
    assert "sharpe_gain" in run.data.tags["gate_failed"]
    told = judged(max_depth=2, gate_sharpe_gain="none").data.tags["gate_failed"]
    assert "sharpe" not in told


@pytest.mark.slow
def test_one_symbol_and_a_name_that_is_markup(prices: str) -> None:
    table = pd.read_parquet(prices)
    only = table[table["symbol"] == "IBM"].assign(symbol="<script>alert(1)</script> & $x_1$")
    only.to_parquet("one.parquet", index=False)
    run = judged("one.parquet")
    assert "ic" not in run.data.metrics
    report = (Recorded(Path.cwd()).artifacts(run) / "report.html").read_text()
    assert "<script" not in report
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in report


@pytest.mark.slow
def test_the_gate_is_where_the_parameters_put_it(prices: str) -> None:
    wide_open = {"gate_auc_low": 0.0, "gate_log_loss_gain": -1.0, "gate_sharpe_gain": "none"}
    run = judged(prices, **wide_open)
    assert run.data.tags["gate"] == "APPROVED"
    assert run.data.tags["gate_failed"] == "none"
    run = do("evaluate", evaluate, EvaluateParams(**JUDGING, **wide_open, gate_sharpe_low=99.0))
    assert run.data.tags["gate_failed"] == "sharpe_low"


@pytest.mark.slow
def test_the_report_says_how_to_do_it_again(prices: str) -> None:
    run = judged(prices)
    report = (Recorded(Path.cwd()).artifacts(run) / "report.html").read_text()
    train_run_id = run.data.tags["train_run_id"]
    assert f"-e evaluate -P train_run_id={train_run_id}" in report
    assert f"-e reproduce -P run_id={train_run_id}" in report
    assert run.data.tags["feature_snapshot_id"] in report


@pytest.mark.slow
def test_a_run_of_a_git_server_is_repeated_from_there(prices: str) -> None:
    from steps.record import commands

    with MLflowLogger(
        tags={
            "mlflow.source.git.repoURL": "https://git.example.org/candlewick.git",
            "mlflow.source.git.commit": "abc",
        }
    ) as logger:
        assert commands(["-e x"], logger) == [
            "mlflow run https://git.example.org/candlewick.git -v abc -e x"
        ]
