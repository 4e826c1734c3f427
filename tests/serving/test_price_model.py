"""A model that takes prices: what it answers, what it notes, what it refuses."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import DMatrix, train

from steps.learning.proba import predict_proba_up
from steps.market.build import build_snapshot
from steps.market.features import compute_features, get_feature_set
from steps.market.prices import load_prices
from steps.serving.forecast import Learned, forecast
from steps.serving.price_model import PriceModel

CORE = get_feature_set("core")
PRICES = load_prices("sample").table
RECENT = PRICES[PRICES["symbol"].isin(["AAPL", "IBM"])].groupby("symbol").tail(120)
RECENT = RECENT.reset_index(drop=True)
LAST = date(2013, 3, 1)


def learned(**other: Any) -> Learned:
    known = {
        "feature_snapshot_id": "0" * 32,
        "feature_set": "core",
        "feature_set_version": CORE.version,
        "feature_names": CORE.names,
        "symbols": ("AAPL", "IBM"),
        "horizon": 1,
        "best_threshold": 0.5,
        "model_type": "xgboost",
    }
    return Learned(**{**known, **other})


@pytest.fixture(scope="module")
def model() -> PriceModel:
    snapshot = build_snapshot(RECENT, CORE, 1)
    rows = snapshot.table["direction"].notna()
    matrix = DMatrix(snapshot.features[rows], snapshot.table.loc[rows, "direction"].astype(int))
    booster = train({"objective": "binary:logistic", "nthread": 1}, matrix, num_boost_round=4)
    return PriceModel(booster, learned())


def shorten(rows: int, symbol: str = "IBM") -> pd.DataFrame:
    """Return prices of which one symbol has few."""
    kept = RECENT["symbol"].ne(symbol)
    return pd.concat([RECENT[kept], RECENT[~kept].tail(rows)], ignore_index=True)


def test_every_date_is_the_model_asked_about_the_features(model: PriceModel) -> None:
    answer = model.forecast(RECENT, every_date=True)
    features = compute_features(RECENT, CORE)
    expected = predict_proba_up(model.model, features)
    assert answer["probability"].to_numpy().tobytes() == expected.tobytes()
    assert answer[["date", "symbol"]].equals(features[["date", "symbol"]])
    assert answer["direction"].tolist() == (expected > 0.5).astype(int).tolist()
    assert set(answer["horizon"]) == {1}


def test_the_newest_date_is_the_last_of_every_date(model: PriceModel) -> None:
    every = model.forecast(RECENT, every_date=True).groupby("symbol").tail(1)
    newest = model.forecast(RECENT)
    pd.testing.assert_frame_equal(newest, every.reset_index(drop=True))
    assert newest["date"].tolist() == [pd.Timestamp(LAST)] * 2


def test_the_threshold_is_the_models_own(model: PriceModel) -> None:
    probability = model.forecast(RECENT)["probability"].iloc[0]
    strict = PriceModel(model.model, learned(best_threshold=float(probability)))
    assert strict.forecast(RECENT)["direction"].iloc[0] == 0  # above it, not at it
    below = PriceModel(model.model, learned(best_threshold=float(probability) - 1e-9))
    assert below.forecast(RECENT)["direction"].iloc[0] == 1


@pytest.mark.parametrize("every_date", [False, True])
def test_too_few_rows_are_told_and_the_others_are_forecast(
    model: PriceModel, every_date: bool
) -> None:
    answer = model.forecast(shorten(33), every_date=every_date)
    short = answer[answer["symbol"] == "IBM"]
    assert short["note"].tolist() == ["33 rows of the 34 needed"]
    assert short["date"].tolist() == [pd.Timestamp(LAST)]
    assert short["probability"].isna().all()
    assert short["direction"].isna().all()
    others = answer[answer["symbol"] == "AAPL"]
    assert others["probability"].notna().all()
    assert len(others) == (87 if every_date else 1)
    assert model.forecast(shorten(34))["probability"].notna().all()


def test_nobody_has_enough_rows(model: PriceModel) -> None:
    answer = model.forecast(RECENT.groupby("symbol").tail(1).reset_index(drop=True))
    assert answer["note"].tolist() == ["1 row of the 34 needed"] * 2
    assert answer["direction"].isna().all()


def test_a_row_says_whether_its_features_have_settled(model: PriceModel) -> None:
    settled = CORE.settled_rows
    long = PRICES[PRICES["symbol"] == "AAPL"].tail(settled + 1).reset_index(drop=True)
    notes = model.forecast(long, every_date=True)["note"].tolist()
    assert notes[0] == f"34 rows, features settle with {settled}"
    assert notes[-3] == f"{settled - 1} rows, features settle with {settled}"
    assert notes[-2:] == ["", ""]


def test_a_symbol_that_was_not_in_the_snapshot_is_forecast_and_told(model: PriceModel) -> None:
    stranger = PRICES[PRICES["symbol"] == "MSFT"].tail(800).reset_index(drop=True)
    answer = model.forecast(stranger)
    assert answer["note"].tolist() == ["not seen in training"]
    assert answer["probability"].notna().all()


@pytest.mark.parametrize(
    ("as_of", "max_age", "age"),
    [
        (None, 5, ""),  # the newest date in the prices
        (date(2013, 3, 8), 5, ""),
        (date(2013, 3, 11), 5, "stale: 6 weekdays old"),
        (date(2013, 3, 4), 0, "stale: 1 weekday old"),
        (date(2026, 1, 1), None, ""),
    ],
)
def test_old_prices_are_stale(
    model: PriceModel, as_of: date | None, max_age: int | None, age: str
) -> None:
    history = PRICES[PRICES["symbol"] == "IBM"].tail(701).reset_index(drop=True)
    answer = model.forecast(history, as_of=as_of, max_age=max_age)
    assert answer["note"].tolist() == [age]


def test_a_symbol_that_ended_before_the_others_is_stale(model: PriceModel) -> None:
    histories = PRICES[PRICES["symbol"].isin(["AAPL", "IBM"])]
    ended = histories["symbol"].eq("IBM") & (histories["date"] > "2013-02-15")
    answer = model.forecast(histories[~ended].reset_index(drop=True))
    assert answer["note"].tolist() == ["", "stale: 10 weekdays old"]
    assert answer["date"].astype(str).tolist() == ["2013-03-01", "2013-02-15"]


def test_several_notes_stand_in_one() -> None:
    model = make_pipeline(StandardScaler(), LogisticRegression())
    few = PRICES[PRICES["symbol"] == "FB"].tail(3).reset_index(drop=True)
    answer = forecast(few, model, learned(), as_of=date(2013, 3, 15), max_age=1)
    assert answer["note"].item() == (
        "3 rows of the 34 needed; not seen in training; stale: 10 weekdays old"
    )


def test_features_of_another_version_are_refused() -> None:
    with pytest.raises(ValueError, match=r"learned from version 0\.9 of feature set core"):
        forecast(RECENT, None, learned(feature_set_version="0.9"))


# -- as it is served -----------------------------------------------------------------------------


def as_sent(table: pd.DataFrame) -> pd.DataFrame:
    """Return prices as they are after a client's JSON: days are texts."""
    sent = json.dumps(table.assign(date=table["date"].astype(str)).to_dict("records"))
    return pd.DataFrame(json.loads(sent))


def test_a_request_is_answered_in_types_that_json_has(model: PriceModel) -> None:
    answer = model.predict(as_sent(RECENT))
    checked = model.forecast(RECENT)
    assert answer["probability"].tolist() == checked["probability"].tolist()
    assert answer["date"].tolist() == ["2013-03-01"] * 2
    text = json.dumps(answer.to_dict("records"), allow_nan=False)
    assert json.loads(text)[0]["direction"] in (0, 1)


def test_what_is_not_known_is_null_and_no_nan(model: PriceModel) -> None:
    answer = model.predict(as_sent(shorten(10)))
    rows = json.loads(json.dumps(answer.to_dict("records"), allow_nan=False))
    assert [row["probability"] is None for row in rows] == [False, True]
    assert [row["direction"] is None for row in rows] == [False, True]


def test_a_request_may_ask_for_more(model: PriceModel) -> None:
    told = model.predict(RECENT, {"every_date": True, "as_of": "2013-04-01", "max_age": -1})
    assert len(told) == 2 * 87
    stale = model.predict(RECENT, {"as_of": "2013-04-01"})
    assert stale["note"].str.contains("stale: 21 weekdays old").all()
    assert model.predict(RECENT, {"as_of": "today"})["note"].str.contains("stale").all()
    assert len(model.predict(RECENT, {"horizon": 1})) == 2


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"horizon": 5}, "this model forecasts 1 trading day ahead, not 5"),
        ({"as_of": "soon"}, "as_of='soon' is not a date: write 2020-01-31, today or newest"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(
    model: PriceModel, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(MlflowException, match=message) as refused:
        model.predict(RECENT, params)
    assert refused.value.get_http_status_code() == 400


def test_bad_prices_are_refused_in_the_loaders_words(model: PriceModel, tmp_path: Path) -> None:
    broken = RECENT.astype({"close": object, "date": str})
    broken.loc[3, "close"] = "abc"
    broken.loc[5, ["low", "high"]] = [9.0, 8.0]
    with pytest.raises(MlflowException) as refused:
        model.predict(broken)
    broken.astype(str).to_parquet(tmp_path / "p.parquet")
    with pytest.raises(ValueError, match="2 problems") as by_loader:
        load_prices(tmp_path / "p.parquet")
    told, expected = str(refused.value).splitlines(), str(by_loader.value).splitlines()
    assert told[0] == "the request cannot be used: 2 problems"
    assert told[1:] == expected[1:]
    assert "row 4, column close: 'abc' is not a number" in told[1]


def test_absurd_prices_name_feature_symbol_and_date(model: PriceModel) -> None:
    absurd = RECENT.assign(volume=1e308)
    with pytest.raises(MlflowException, match=r"feature \w+ must be finite, found .* for AAPL on"):
        model.predict(absurd)


# -- there and back ------------------------------------------------------------------------------


def test_a_booster_there_and_back(model: PriceModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    loaded = PriceModel.load(tmp_path)
    assert loaded.learned == model.learned
    assert sorted(path.name for path in tmp_path.iterdir()) == ["learned.json", "model.ubj"]
    pd.testing.assert_frame_equal(loaded.predict(RECENT), model.predict(RECENT))


def test_an_estimator_there_and_back(tmp_path: Path) -> None:
    snapshot = build_snapshot(RECENT, CORE, 1)
    rows = snapshot.table["direction"].notna()
    X, y = snapshot.features[rows], snapshot.table.loc[rows, "direction"].astype(int)
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(X.astype(np.float64), y)
    model = PriceModel(fitted, learned(model_type="logistic_regression"))
    model.save(tmp_path)
    loaded = PriceModel.load(tmp_path)
    pd.testing.assert_frame_equal(loaded.forecast(RECENT), model.forecast(RECENT))
    assert loaded.features(RECENT).equals(compute_features(RECENT, CORE))
