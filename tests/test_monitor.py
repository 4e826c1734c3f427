"""monitor: what is new to a model, what it says of it, and what the command leaves with."""

import re
import runpy
import shutil
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from planted import planted_prices
from sklearn.metrics import log_loss, roc_auc_score

from steps.entry_point import ParameterError, open_step
from steps.evaluate import EvaluateParams, evaluate
from steps.featurize import FeaturizeParams, featurize
from steps.learning.bootstrap import Interval
from steps.learning.decline import judge_decline
from steps.learning.drift import population_stability_index
from steps.market.price_quality import Oddity, PriceQuality
from steps.monitor import MonitorParams, NothingNewError, monitor
from steps.tracking.price_model_store import load_price_model
from steps.tracking.project import StepRun, read_run
from steps.tracking.stores import TrackingError
from steps.train import TrainParams, train
from steps.watching.drift import Drift, find_drift
from steps.watching.live_performance import Performance, by_month, judge_performance
from steps.watching.record_watch import in_lines
from steps.watching.watch import Watch

GOOD, BAD = (
    Interval(value, value - 0.02, value + 0.02, 0.95, 10, 1000, 40) for value in (0.6, 0.5)
)


def drift_of(
    drifted: int, too_little: str = "", features: int = 12, forecasts: float | str = "no rows"
) -> Drift:
    """As many features that drifted, and forecasts with a PSI, or why there is none."""
    table = pd.DataFrame(
        {
            "feature": [f"f{number}" for number in range(features)],
            "psi": np.linspace(0.1, 0.2, features) + 0.5 * (np.arange(features) < drifted),
            "ks": 0.1,
            "p_value": 0.001,
            "p_adjusted": 0.012,
            "drifted": np.arange(features) < drifted,
        }
    )
    if too_little:
        table = table.assign(p_adjusted=np.nan, drifted=False)
    told = isinstance(forecasts, float)
    row = {"feature": "forecast", "psi": forecasts if told else np.nan, "ks": 0.1}
    row |= {"p_adjusted": 0.012 if told else np.nan, "drifted": told and forecasts > 0.25}
    return Drift(
        table=pd.concat([table, pd.DataFrame([row])], ignore_index=True),
        psi_bound=0.25,
        alpha=0.05,
        too_little=too_little,
        too_little_of_forecasts="" if told else str(forecasts),
    )


def performance_of(live: Interval | None) -> Performance:
    then = {"auc_roc": GOOD}
    labelled = labels_of(70)
    if live is None:
        return Performance(
            labelled=labelled, live={}, then=then, decline=None, unjudged="no verdict: too few"
        )
    decline = judge_decline(live, GOOD, alpha=0.05)
    return Performance(
        labelled=labelled, live={"auc_roc": live}, then=then, decline=decline, unjudged=""
    )


def labels_of(dates: int, symbols: int = 2, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    days = pd.bdate_range("2024-01-15", periods=dates)
    table = pd.DataFrame({"date": np.repeat(days, symbols), "symbol": ["A", "B"] * dates})
    probability = random.uniform(0.3, 0.7, len(table))
    return table.assign(
        probability=probability,
        direction=(random.random(len(table)) < probability).astype(np.int8),
        predicted=(probability > 0.5).astype(np.int8),
        base_rate=0.5,
    )


def watch_of(drift: Drift, performance: Performance, *oddities: Oddity) -> Watch:
    quality = PriceQuality(pd.DataFrame({"symbol": ["A", "B"]}), oddities)
    new = labels_of(70)
    return Watch(new=new, unlearned=new, drift=drift, performance=performance, quality=quality)


@pytest.mark.parametrize("drifted", [0, 3])
@pytest.mark.parametrize("live", [GOOD, BAD, None])
@pytest.mark.parametrize("too_little", ["", "too few dates"])
def test_the_verdict(drifted: int, live: Interval | None, too_little: str) -> None:
    watch = watch_of(drift_of(drifted, too_little), performance_of(live))
    if (drifted and not too_little) or live is BAD:
        expected = "drift"
    else:
        expected = "unknown" if too_little else "stable"
    assert watch.status == expected
    told = "decline" if live is BAD and watch.drift.drifted.empty else expected
    assert watch.sentence.startswith(f"{told.capitalize()} on 140 new rows of 70 dates: ")
    assert len(in_lines(watch)[0].splitlines()) == 1


def test_the_verdict_is_said_with_its_figures() -> None:
    watch = watch_of(drift_of(11, forecasts=0.2), performance_of(BAD))
    assert watch.sentence == (
        "Drift on 140 new rows of 70 dates: 11 of 12 features drifted, f10 furthest (PSI 0.69), "
        "but not the forecasts; performance declined, AUC 0.500 against 0.600 at the evaluation."
    )
    assert watch.reasons[0] == "f10 drifted: PSI 0.69, adjusted p 0.012"
    assert watch.reasons[-2] == "and 1 more drifted"
    assert watch.reasons[-1] == watch.performance.decline.sentence  # type: ignore[union-attr]
    assert len(watch.reasons) == 12


def test_a_drift_is_reasoned_by_what_led_to_it() -> None:
    drifted = watch_of(drift_of(1, forecasts=0.1), performance_of(GOOD))
    assert drifted.reasons == ["f0 drifted: PSI 0.60, adjusted p 0.012"]
    declined = watch_of(drift_of(0, forecasts=0.1), performance_of(BAD))
    assert declined.reasons == [declined.performance.decline.sentence]  # type: ignore[union-attr]
    stable = watch_of(drift_of(0, forecasts=0.1), performance_of(GOOD))
    assert stable.reasons == [
        "nothing drifted: f11 moved furthest (PSI 0.20, adjusted p 0.012)",
        stable.performance.decline.sentence,  # type: ignore[union-attr]
    ]


@pytest.mark.parametrize(
    ("drifted", "forecasts", "said"),
    [
        (0, "no rows", "none of 12 features drifted"),
        (0, 0.1, "none of 12 features drifted, nor did the forecasts"),
        (0, 0.3, "none of 12 features drifted, but the forecasts did (PSI 0.30)"),
        (1, "no rows", "1 of 12 features drifted, f0 furthest (PSI 0.60)"),
        (1, 0.1, "1 of 12 features drifted, f0 furthest (PSI 0.60), but not the forecasts"),
        (
            *(1, 0.3),
            "1 of 12 features drifted, f0 furthest (PSI 0.60), and so did the forecasts (PSI 0.30)",
        ),
    ],
)
def test_the_sentence_says_of_forecasts_what_is_known(
    drifted: int, forecasts: float | str, said: str
) -> None:
    watch = watch_of(drift_of(drifted, forecasts=forecasts), performance_of(GOOD))
    assert watch.sentence.split(": ")[1].split("; ")[0] == said
    assert watch.status == ("drift" if drifted or forecasts == 0.3 else "stable")
    without = "forecasts not compared with those between the train window and since: no rows"
    assert (without in watch.reasons) == (forecasts == "no rows")


def test_what_cannot_be_told_is_not_told() -> None:
    watch = watch_of(drift_of(0, "20 new dates, 63 are needed"), performance_of(None))
    assert watch.sentence.endswith(
        ": too little data to tell whether a feature drifted; no verdict on performance."
    )
    assert watch.reasons == ["20 new dates, 63 are needed", "no verdict: too few"]


def test_oddities_come_last_and_ten_of_them() -> None:
    odd = [Oddity("stale", "A", f"A ends {number}") for number in range(12)]
    watch = watch_of(drift_of(0), performance_of(GOOD), *odd)
    said = in_lines(watch)
    assert said[0] == watch.sentence
    assert said[1 : 1 + len(watch.reasons)] == [f"- {reason}" for reason in watch.reasons]
    assert said[-11:] == [
        *(f"odd: A ends {number}" for number in range(10)),
        "odd: and 2 more, in monitor.html",
    ]
    assert watch.stale_symbols == 12
    old = watch_of(drift_of(0), performance_of(GOOD), Oddity("all stale", "", "all are old"))
    assert old.stale_symbols == 2


def judged(labelled: pd.DataFrame, then: dict[str, Interval], tested: int = 0) -> Performance:
    return judge_performance(
        labelled,
        then,
        horizon=1,
        confidence=0.95,
        n_resamples=200,
        alpha=0.05,
        tested=labels_of(tested)[["date", "symbol"]],
    )


def test_performance_is_judged_on_enough_labels_only() -> None:
    then = {"auc_roc": GOOD}
    assert judged(labels_of(63), then).decline is not None
    few = judged(labels_of(62), then)
    assert few.decline is None
    assert few.unjudged == ("no verdict on performance: 62 dates with known labels, 63 are needed")
    assert few.live["auc_roc"].value == pytest.approx(
        roc_auc_score(labels_of(62)["direction"], labels_of(62)["probability"])
    )
    assert few.note == (
        "124 labelled rows of 62 dates. "
        "No verdict on performance: 62 dates with known labels, 63 are needed."
    )
    none = judged(labels_of(0), then)
    assert (none.live, none.decline, none.note) == ({}, None, "No label is known yet.")
    one_class = judged(labels_of(70).assign(direction=np.int8(1)), then)
    assert one_class.unjudged == "no verdict on performance: all 140 known labels are up"


def test_rows_of_the_evaluation_are_no_news() -> None:
    then, labelled = {"auc_roc": GOOD}, labels_of(70)
    found = judged(labelled, then, tested=7)
    assert (found.shared, found.labelled["date"].nunique()) == (14, 63)
    expected = judged(labelled.iloc[14:], then)
    assert found.decline == expected.decline
    left_out = "14 labelled rows left out: the evaluation scored them"
    assert found.note == f"126 labelled rows of 63 dates. {left_out}."
    watch = watch_of(drift_of(0), found)
    assert watch.reasons[-2:] == [found.decline.sentence, left_out]  # type: ignore[union-attr]

    for tested, known in ((8, 62), (70, 0)):
        fewer = judged(labelled, then, tested=tested)
        assert fewer.decline is None
        assert fewer.unjudged == (
            f"no verdict on performance: {known} dates with known labels that the evaluation has "
            "not scored, 63 are needed"
        )
    assert fewer.live == {}
    assert fewer.note.startswith("0 labelled rows of 0 dates. 140 labelled rows left out:")


def test_a_model_without_a_known_past_cannot_decline() -> None:
    found = judged(labels_of(70), {}, tested=5)
    assert found.decline is None
    assert "no evaluation of the model is recorded" in found.unjudged
    assert found.shared == 0
    unknown = Interval(0.5, float("nan"), float("nan"), 0.95, 10, 0)
    found = judged(labels_of(70), {"auc_roc": unknown})
    assert found.decline is None
    assert "the evaluation's has no interval" in found.unjudged


def test_months_are_scored_one_by_one() -> None:
    labelled = labels_of(40)
    months = by_month(labelled).set_index("month")
    assert months.index.tolist() == ["2024-01", "2024-02", "2024-03"]
    february = labelled[labelled["date"].dt.month == 2]
    assert months.loc["2024-02", "rows"] == len(february)
    y, proba = february["direction"], february["probability"]
    assert months.loc["2024-02", "auc_roc"] == pytest.approx(roc_auc_score(y, proba))
    assert months.loc["2024-02", "log_loss"] == pytest.approx(log_loss(y, proba))
    assert months.loc["2024-02", "base_rate"] == y.mean()
    assert by_month(labelled.head(0)).empty


def rows_of(dates: int, start: str, seed: int, shift: float = 0.0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    days = np.repeat(pd.bdate_range(start, periods=dates), 3)
    calm, moved = random.normal(size=(2, len(days)))
    return pd.DataFrame(
        {"date": days, "calm": calm, "moved": moved + shift, "forecast": random.random(len(days))}
    )


def test_forecasts_are_compared_with_those_of_rows_the_model_did_not_learn_from() -> None:
    learned = rows_of(400, "2020-01-01", 0).drop(columns="forecast")
    unlearned, new = rows_of(400, "2022-01-03", 1), rows_of(100, "2024-01-01", 2, shift=2.0)
    bounds = {"alpha": 0.05, "psi_bound": 0.25}
    found = find_drift(learned, unlearned, new, ["calm", "moved"], **bounds).table
    found = found.set_index("feature")
    assert found.index.tolist() == ["calm", "moved", "forecast"]
    assert found["drifted"].tolist() == [False, True, False]
    for name, reference in (("moved", learned), ("forecast", unlearned)):
        psi = population_stability_index(reference[name], new[name])
        assert found.loc[name, "psi"] == pytest.approx(psi)
    # Holm's for all three together: the smallest counts three times, the next twice.
    smallest, middle, largest = sorted(found["p_value"])
    steps = np.minimum(1, np.maximum.accumulate([3 * smallest, 2 * middle, largest]))
    assert sorted(found["p_adjusted"]) == pytest.approx(steps.tolist())
    # Beside few of them or none, forecasts cannot be compared; the features can.
    for rows in (30, 0):
        fewer = find_drift(learned, unlearned.head(rows), new, ["calm", "moved"], **bounds)
        assert fewer.judged["feature"].tolist() == ["moved", "calm"]
        assert fewer.table["drifted"].tolist() == [False, True, False]
        assert not fewer.too_little
        assert fewer.too_little_of_forecasts.startswith(f"{rows // 3} reference dates, 336 needed")
    assert not find_drift(
        learned, unlearned, new, ["calm", "moved"], **bounds
    ).too_little_of_forecasts


def test_too_little_data_has_no_p_value() -> None:
    learned, new = rows_of(400, "2020-01-01", 0), rows_of(20, "2024-01-01", 2, shift=2.0)
    found = find_drift(learned, learned, new, ["calm", "moved"], alpha=0.05, psi_bound=0.25)
    assert found.too_little.startswith("20 new dates, 63 needed")
    assert found.table.set_index("feature").loc["moved", "psi"] > 1
    assert found.judged.empty
    assert found.drifted.empty


def test_an_alpha_that_few_blocks_cannot_reach_is_too_little_data() -> None:
    learned, new = rows_of(400, "2020-01-01", 0), rows_of(63, "2024-01-01", 2, shift=9.0)
    bounds = {"psi_bound": 0.25, "alpha": 0.004}  # 3 tests of 3 of 22 blocks: 3 * 2 / 1540 = 0.0039
    found = find_drift(learned, learned, new, ["calm", "moved"], **bounds)
    assert not found.too_little
    assert found.drifted["feature"].tolist() == ["moved"]
    bounds["alpha"] = 0.0038
    told = find_drift(learned, learned, new, ["calm", "moved"], **bounds).too_little
    assert told == (
        "400 reference dates make no p-value below 0.0039, adjusted for 3 tests, and alpha is "
        "0.0038: drift cannot be told from chance"
    )


def test_of_an_alpha_next_to_nothing_nothing_is_told() -> None:
    learned, new = rows_of(400, "2020-01-01", 0), rows_of(200, "2024-01-01", 2, shift=9.0)
    found = find_drift(learned, learned, new, ["calm", "moved"], psi_bound=0.25, alpha=1e-6)
    assert found.judged.empty
    assert "make no p-value below" in found.too_little
    assert found.too_little_of_forecasts == found.too_little


# -- a recorded model, watched ---------------------------------------------------------------------

OHLC = ["open", "high", "low", "close"]
N_DAYS, N_NEW = 1000, 150


def market(seed: int, days: int, *, drift: float = 0.3) -> pd.DataFrame:
    return planted_prices(seed, drift=drift, n_symbols=3, n_days=days)


def later(new: pd.DataFrame, power: float = 1.0) -> pd.DataFrame:
    """The market of the model, followed by another, whose returns are as many times as large."""
    first = market(0, N_DAYS)
    dates = pd.bdate_range(first["date"].max() + pd.offsets.BDay(), periods=len(new) // 3)
    parts = [first]
    for symbol, rows in new.groupby("symbol"):
        last = first.loc[first["symbol"] == symbol, "close"].iloc[-1]
        moved = rows.assign(date=dates)
        moved[OHLC] = last * (rows[OHLC] / 100) ** power
        parts.append(moved)
    return pd.concat(parts, ignore_index=True)


class Watched:
    """A store with a model that was trained and evaluated on a market with a signal."""

    def __init__(self, migrated_database: Path, home: Path) -> None:
        shutil.copy(migrated_database, home / "mlflow.db")
        self.uri = f"sqlite:///{home}/mlflow.db"
        self.home = home
        self.client = mlflow.MlflowClient(self.uri)
        self.client.create_experiment("stock_prediction", str(home / "artifacts"))

    def make(self) -> None:
        market(0, N_DAYS).to_parquet(self.home / "prices.parquet")
        run("featurize", featurize, FeaturizeParams(prices=str(self.home / "prices.parquet")))
        self.trained = run("train", train, TrainParams(n_estimators=20, learning_rate=0.3))
        self.evaluated = run("evaluate", evaluate, EvaluateParams(n_resamples=100))
        self.model_uri = self.trained.tags["model_uri"]


def run(step: str, function: Any, params: Any) -> StepRun:
    with open_step(step, params) as logger:
        function(params, logger)
    return read_run(logger.client, logger.run_id)


@pytest.fixture(scope="module")
def store(migrated_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    watched = Watched(migrated_database, tmp_path_factory.mktemp("watched"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", watched.uri)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        watched.make()
    yield watched


@pytest.fixture
def watched(store: Watched, monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    mlflow.set_tracking_uri(store.uri)
    return store


def watch(watched: Watched, prices: pd.DataFrame, **given: Any) -> StepRun:
    prices.to_parquet("new.parquet")
    given = {"as_of": "newest", "n_resamples": 100, "model_uri": watched.model_uri, **given}
    return run("monitor", monitor, MonitorParams(prices="new.parquet", **given))


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Be `python -m steps.monitor`, and return what it leaves with."""
    monkeypatch.setattr(sys, "argv", ["steps/monitor.py", *arguments])
    monkeypatch.delitem(sys.modules, "steps.monitor")
    with pytest.raises(SystemExit) as left:
        runpy.run_module("steps.monitor", run_name="__main__", alter_sys=True)
    return int(left.value.code or 0)


@pytest.mark.slow
def test_the_same_market_later_is_stable(
    watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = later(market(7, N_NEW))
    found = watch(watched, prices)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"Stable on 450 new rows of {N_NEW} dates: none of 22 features drift")
    assert found.tags["monitor"] == "stable"
    assert found.tags["monitor_reasons"] in "; ".join(line.removeprefix("- ") for line in said)
    assert found.tags["feature_snapshot_id"] == watched.trained.tags["feature_snapshot_id"]
    assert found.tags["model_uri"] == watched.model_uri
    assert found.tags["since"] == str(
        (market(0, N_DAYS)["date"].max() + pd.Timedelta(days=1)).date()
    )

    # Every forecast is that of the model itself; the scores are scikit-learn's.
    live = found.read_table("live_predictions.parquet")
    model = load_price_model(watched.client, watched.model_uri).model
    expected = model.forecast(
        prices.sort_values(["symbol", "date"], ignore_index=True), every_date=True
    )
    expected = expected[expected["date"] > market(0, N_DAYS)["date"].max()]
    assert live["probability"].to_numpy() == pytest.approx(expected["probability"].to_numpy())
    assert live["predicted"].tolist() == expected["direction"].tolist()
    known = live[live["direction"].notna()]
    assert len(known) == found.metrics["labelled_rows"] == 3 * (N_NEW - 1)
    y = known["direction"].astype(int)
    assert found.metrics["live_auc_roc"] == pytest.approx(roc_auc_score(y, known["probability"]))
    assert found.metrics["live_log_loss"] == pytest.approx(log_loss(y, known["probability"]))
    assert found.metrics["live_auc_roc_low"] < found.metrics["live_auc_roc"]
    assert found.metrics["new_rows"] == 3 * N_NEW
    nothing = ("stale_symbols", "drifted_features", "drifted_forecasts")
    assert [found.metrics[name] for name in nothing] == [0, 0, 0]

    told = found.read_json("monitor.json")
    assert told["evaluate_run_id"] == watched.evaluated.run_id
    assert told["evaluation"]["auc_roc"]["value"] == watched.evaluated.metrics["auc_roc"]
    assert told["evaluation"]["auc_roc"]["low"] == watched.evaluated.metrics["auc_roc_low"]
    assert [row["feature"] for row in told["drift"]][-1] == "forecast"
    table = pd.read_csv(mlflow.artifacts.download_artifacts(f"{found.artifact_uri}/drift.csv"))
    psi = table.set_index("feature")["psi"]
    assert psi["forecast"] == pytest.approx(found.metrics["psi/forecast"])
    note = found.tags["mlflow.note.content"].splitlines()
    assert note[:3] == [said[0], "", said[1]]
    page = mlflow.artifacts.load_text(f"{found.artifact_uri}/monitor.html")
    assert said[0] in re.sub(r"\s+", " ", page)
    assert "-e monitor -P model_uri=" in page
    (dataset,) = watched.client.get_run(found.run_id).inputs.dataset_inputs
    assert dataset.dataset.digest == found.tags["feature_snapshot_id"]


@pytest.mark.slow
def test_a_wilder_market_drifts_and_the_command_says_so(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    later(market(7, N_NEW), power=3.0).to_parquet("wild.parquet")
    code = command(
        monkeypatch,
        "--prices=wild.parquet",
        f"--model_uri={watched.model_uri}",
        "--n_resamples=100",
    )
    said = capsys.readouterr().out
    assert code == 1
    assert said.startswith("Drift on 450 new rows")
    assert "- volatility_20 drifted" in said
    assert "odd: all prices are old" in said
    found = newest(watched)
    assert (found.status, found.tags["monitor"]) == ("FINISHED", "drift")
    assert (
        found.metrics["p_adjusted/volatility_20"] < 0.05 < 0.25 < found.metrics["psi/volatility_20"]
    )
    assert found.metrics["stale_symbols"] == 3


@pytest.mark.slow
def test_a_signal_that_is_gone_is_a_decline(watched: Watched) -> None:
    found = watch(watched, later(market(7, N_NEW, drift=0.0)))
    assert found.tags["monitor"] == "drift"
    assert found.metrics["drifted_features"] == 0
    assert found.read_json("monitor.json")["p_value_of_decline"] < 0.05


@pytest.mark.slow
def test_twenty_dates_are_too_few_to_tell(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    later(market(7, 20)).to_parquet("few.parquet")
    code = command(monkeypatch, "--prices=few.parquet", f"--model_uri={watched.model_uri}")
    assert code == 0
    assert "too little data to tell" in capsys.readouterr().out.splitlines()[0]
    assert newest(watched).tags["monitor"] == "unknown"


@pytest.mark.slow
def test_what_cannot_be_watched_is_refused_in_one_line(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = str(watched.home / "prices.parquet")
    code = command(monkeypatch, f"--prices={prices}", f"--model_uri={watched.model_uri}")
    ends = market(0, N_DAYS)["date"].max().date()
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"candlewick monitor failed: nothing is new: the prices end on {ends}")
    assert newest(watched).status == "FAILED"

    last_seen = watched.trained.read_json("split.json")["validation"]["last_date"]
    new = later(market(7, 10))
    with pytest.raises(ParameterError, match=f"trained and validated on rows up to {last_seen}"):
        watch(watched, new, since=date.fromisoformat(last_seen))
    with pytest.raises(ValueError, match="as_of=2016-01-01, but the prices go on to"):
        watch(watched, new, as_of=date(2016, 1, 1))
    with pytest.raises(NothingNewError, match="has the look-back that features need"):
        watch(watched, new.groupby("symbol").tail(10))
    with pytest.raises(TrackingError, match="there is no model models:/nobody@champion"):
        watch(watched, new, model_uri="models:/nobody@champion")


def newest(watched: Watched) -> StepRun:
    experiment = watched.client.get_experiment_by_name("stock_prediction")
    (found,) = watched.client.search_runs(
        [experiment.experiment_id],
        "tags.`candlewick.step` = 'monitor'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return read_run(watched.client, found.info.run_id)
