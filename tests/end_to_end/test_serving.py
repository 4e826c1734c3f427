"""`mlflow models serve`: prices in over HTTP, the forecasts of evaluate out, or a refusal."""

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from end_to_end.conftest import Trained
from end_to_end.model_server import JSON, ModelServer, serve_model
from end_to_end.recipe import environment
from steps.market.build import build_snapshot
from steps.market.features import get_feature_set
from steps.market.price_report import PriceError
from steps.market.prices import SAMPLE, PriceFiles, load_prices, read_prices
from steps.tracking.price_model_store import load_price_model

pytestmark = pytest.mark.slow

CORE = get_feature_set("core")
ROWS = CORE.min_rows + 2
TITLES = ["date", "symbol", "open", "high", "low", "close", "volume"]
Row = dict[str, Any]


@pytest.fixture(scope="module")
def server(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    folder = tmp_path_factory.mktemp("elsewhere")
    without = subprocess.run(
        [sys.executable, "-c", "import steps"], cwd=folder, env=environment(), capture_output=True
    )
    assert b"No module named 'steps'" in without.stderr
    uri = trained.train.data.tags["model_uri"]
    store = f"sqlite:///{trained.folder / 'mlflow.db'}"
    with serve_model(uri, folder, MLFLOW_TRACKING_URI=store) as running:
        yield running


@pytest.fixture(scope="module")
def sample() -> pd.DataFrame:
    return load_prices(SAMPLE).table


def split(prices: pd.DataFrame, **params: Any) -> dict[str, Any]:
    """Return a request for forecasts from a prices table."""
    told = prices.assign(date=prices["date"].dt.strftime("%Y-%m-%d"))
    return {"dataframe_split": told.to_dict("split", index=False), "params": params}


def records(rows: list[Row], **params: Any) -> dict[str, Any]:
    return {"dataframe_records": rows, "params": params}


# -- the forecasts of evaluate -------------------------------------------------------------------


def test_every_date_is_forecast_as_evaluate_did(
    server: ModelServer, trained: Trained, sample: pd.DataFrame
) -> None:
    path = trained.recorded.artifacts(trained.evaluate) / "predictions.parquet"
    evaluated = pd.read_parquet(path)[["date", "symbol", "probability", "predicted"]]
    assert evaluated["probability"].nunique() > 500
    served = pd.DataFrame(server.ask(split(sample, every_date=True)).predictions)
    assert len(served) == len(sample) - 5 * CORE.lookback
    served["date"] = served["date"].astype(evaluated["date"].dtype)
    both = evaluated.merge(served, on=["date", "symbol"], suffixes=("", "_served"))
    assert len(both) == len(evaluated)
    assert both["probability_served"].tolist() == both["probability"].tolist()
    assert both["direction"].tolist() == both["predicted"].tolist()


def test_the_last_rows_are_as_good_as_all(server: ModelServer, sample: pd.DataFrame) -> None:
    settled = sample.groupby("symbol").tail(CORE.settled_rows)
    assert len(settled) < len(sample) / 3
    newest = server.ask(split(settled)).predictions
    assert newest == server.ask(split(sample)).predictions
    assert [each["symbol"] for each in newest] == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    assert {each["date"] for each in newest} == {"2013-03-01"}
    short = {each["symbol"]: each["note"] for each in newest if each["note"]}
    listed_late = (sample["symbol"] == "FB").sum()
    assert short == {"FB": f"{listed_late} rows, features settle with {CORE.settled_rows}"}


def test_what_the_model_sees_is_what_it_learned_from(
    trained: Trained, sample: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Trees hide small differences; the features behind them do not.
    monkeypatch.chdir(trained.folder)
    uri = trained.train.data.tags["model_uri"]
    loaded = load_price_model(trained.recorded.client, uri)
    snapshot = build_snapshot(sample, CORE, loaded.metadata["horizon"])
    assert snapshot.snapshot_id == loaded.metadata["feature_snapshot_id"]
    everything = loaded.model.features(sample)
    assert type(loaded.model).__module__.startswith("candlewick_")
    pd.testing.assert_frame_equal(everything, snapshot.table[everything.columns], check_exact=True)
    settled = sample.groupby("symbol").tail(CORE.settled_rows).reset_index(drop=True)
    pd.testing.assert_frame_equal(
        loaded.model.features(settled).groupby("symbol").tail(1).reset_index(drop=True),
        everything.groupby("symbol").tail(1).reset_index(drop=True),
        check_exact=True,
    )


# -- prices that cannot be -----------------------------------------------------------------------


@pytest.fixture
def rows(sample: pd.DataFrame) -> list[Row]:
    """Prices of two symbols, as a client has them: enough for a forecast, too few to settle."""
    some = sample[sample["symbol"].isin(["AAPL", "MSFT"])].groupby("symbol").tail(ROWS)
    return some.assign(date=some["date"].dt.strftime("%Y-%m-%d")).to_dict("records")


def loader_says(rows: list[Row], folder: Path) -> str | None:
    """Return what the loader says of a file with these rows; None where it takes them."""

    def stored(cells: list[Any]) -> pa.Array:
        (kind, *others) = set(map(type, cells))
        if not others and kind in (bool, int, list, dict):
            return pa.array(cells)
        missing = [cell is None or cell != cell for cell in cells]
        texts = [str(cell).encode("utf-8", "backslashreplace").decode() for cell in cells]
        return pa.array(texts, pa.string(), mask=missing)

    titles = list(rows[0])
    table = pa.table({title: stored([row[title] for row in rows]) for title in titles})
    # Arrow's name for what is in a list, not Parquet's: it stands in the report.
    pq.write_table(table, folder / "rows.parquet", use_compliant_nested_type=False)
    try:
        read_prices(PriceFiles((folder / "rows.parquet",), ("the request",)))
    except PriceError as error:
        return str(error)
    return None


def cell(**cells: Any) -> Callable[[list[Row]], None]:
    return lambda rows: rows[3].update(cells)


def column(**cells: Any) -> Callable[[list[Row]], None]:
    return lambda rows: [row.update(cells) for row in rows] and None


BAD_PRICES: dict[str, Callable[[list[Row]], None]] = {
    "text in a number column": cell(close="abc"),
    "markup": cell(high="<script>alert(1)</script>"),
    "NaN": cell(close=math.nan),
    "null": cell(open=None),
    "blank": cell(volume=" "),
    "infinite": cell(high=math.inf),
    "minus infinite": cell(low=-math.inf),
    "infinite as text": cell(high="1e400"),
    "negative price": cell(low=-1.5),
    "zero": cell(open=0),
    "negative volume": cell(volume=-1),
    "high below low": cell(high=1.0),
    "close above high": cell(close=1e6),
    "a boolean among numbers": cell(volume=True),
    "booleans": column(volume=True),
    "a list among numbers": cell(close=[70.0]),
    "lists": column(close=[70.0]),
    "a mapping among numbers": cell(close={"usd": 70.0}),
    "mappings": column(symbol={"ticker": "AAPL"}),
    "a huge integer": cell(close=10**400),
    "an integer beyond 64 bits": cell(close=2**64),
    "a lone surrogate": cell(close="\ud800"),
    "date of another form": cell(date="08/01/2013"),
    "no such day": cell(date="2013-02-30"),
    "date as a small number": cell(date=3),
    "date as milliseconds": column(date=1357603200000),
    "date missing": cell(date=None),
    "symbol missing": cell(symbol=""),
    "every symbol missing": column(symbol=None),
    "mixed time zones": cell(date="2013-01-08T00:00:00+02:00"),
    "a duplicate": lambda rows: rows.append(dict(rows[3])),
    "many duplicates": lambda rows: rows.extend([dict(row) for row in rows]),
    "adj_close of some rows": lambda rows: (
        [row.update(adj_close=row["close"] if place else None) for place, row in enumerate(rows)]
        and None
    ),
    "adj_close out of proportion": lambda rows: (
        [
            row.update(adj_close=1e-320 if place == 3 else row["close"])
            for place, row in enumerate(rows)
        ]
        and None
    ),
}


@pytest.mark.parametrize("name", BAD_PRICES)
def test_bad_prices_are_refused_in_the_words_of_the_loader(
    name: str, server: ModelServer, rows: list[Row], tmp_path: Path
) -> None:
    BAD_PRICES[name](rows)
    expected = loader_says(rows, tmp_path)
    assert expected is not None
    for request in (
        records(rows),
        {"dataframe_split": {"columns": list(rows[0]), "data": [list(r.values()) for r in rows]}},
    ):
        said = server.ask(request).message
        assert said.endswith(f"\nError: {expected}"), said


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from(["20130108", "2013-01-08T10:00", "1,5", "1e5", "inf", "-", "NULL", "\uff11"]),
)
EDITS = st.lists(
    st.tuples(st.integers(0, 2 * ROWS - 1), st.sampled_from(TITLES), CELLS), min_size=1, max_size=4
)


@settings(
    max_examples=40,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(edits=EDITS)
def test_any_cell_is_taken_or_refused_as_the_loader_does(
    server: ModelServer, rows: list[Row], tmp_path: Path, edits: list[tuple[int, str, Any]]
) -> None:
    changed = [dict(row) for row in rows]
    for place, title, value in edits:
        changed[place][title] = value
    expected = loader_says(changed, tmp_path)
    answer = server.ask(records(changed))
    if expected is None and answer.status == 400:
        # A volume of 1e300 is a number, but what is computed from it need not be one.
        assert "must be finite, found" in answer.message
    elif expected is None:
        held: dict[str, int] = {}
        for row in changed:
            symbol = str(row["symbol"]).strip()
            held[symbol] = held.get(symbol, 0) + 1
        assert [each["symbol"] for each in answer.predictions] == sorted(held)
        for each in answer.predictions:
            enough = held[each["symbol"]] >= CORE.min_rows
            assert (each["probability"] is not None) == (each["direction"] is not None) == enough
    else:
        assert answer.message.endswith(f"\nError: {expected}")


# -- titles --------------------------------------------------------------------------------------


def retitled(rows: list[Row], title: str, to: str) -> list[Row]:
    return [{to if name == title else name: value for name, value in r.items()} for r in rows]


@pytest.mark.parametrize("title", TITLES)
def test_a_missing_column_is_named(title: str, server: ModelServer, rows: list[Row]) -> None:
    for row in rows:
        del row[title]
    assert title in server.ask(records(rows)).message


def test_a_misspelt_title_is_refused_in_the_words_of_the_loader(
    server: ModelServer, rows: list[Row], tmp_path: Path
) -> None:
    misspelt = retitled(rows, "close", "clsoe")
    expected = loader_says(misspelt, tmp_path)
    assert expected is not None
    assert "rename 'clsoe' to close" in expected
    assert server.ask(records(misspelt)).message.endswith(f"\nError: {expected}")


@pytest.mark.parametrize("title", ["Adj Close", "ADJ_CLOSE", "adj-close"])
def test_prices_are_adjusted_however_the_title_is_written(
    title: str, server: ModelServer, rows: list[Row]
) -> None:
    # A split in the middle: without the adjustment there is a fall by half.
    for place, row in enumerate(rows):
        row["adj_close"] = row["close"] * (0.5 if place % ROWS < ROWS // 2 else 1.0)
    adjusted = server.ask(records(rows)).predictions
    for row in rows:
        row[title] = row.pop("adj_close")
    assert server.ask(records(rows)).predictions == adjusted


def test_a_title_that_only_looks_like_adj_close_is_refused(
    server: ModelServer, rows: list[Row]
) -> None:
    for row in rows:
        row["adjusted_close"] = row["close"]
    assert "'adjusted_close' looks like adj_close" in server.ask(records(rows)).message


# -- bodies and parameters -----------------------------------------------------------------------


BAD_BODIES: dict[str, Any] = {
    "not JSON": b"date,symbol\n",
    "empty": b"",
    "no text": b"\xff\xfe\x00",
    "a list": [],
    "a number": 5,
    "null": None,
    "an empty mapping": {},
    "wrong key": {"prices": []},
    "two keys": {"dataframe_records": [], "dataframe_split": {}},
    "no records": {"dataframe_records": []},
    "records that are a mapping": {"dataframe_records": {"date": "2013-01-08"}},
    "records that are numbers": {"dataframe_records": [1, 2, 3]},
    "records that are null": {"dataframe_records": [None]},
    "split that is a list": {"dataframe_split": [1, 2]},
    "split without data": {"dataframe_split": {"columns": TITLES}},
    "split with short rows": {"dataframe_split": {"columns": TITLES, "data": [[1, 2]]}},
    "columns without rows": {"dataframe_split": {"columns": TITLES, "data": []}},
    "a column twice": {
        "dataframe_split": {"columns": [*TITLES, "close"], "data": [list("abcdefgh")]}
    },
    "titles that are numbers": {"dataframe_split": {"columns": [1, 2], "data": [[1, 2]]}},
    "nested deep": {"dataframe_records": [{"close": json.loads("[" * 500 + "]" * 500)}]},
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_body_that_holds_no_prices_is_refused(name: str, server: ModelServer) -> None:
    assert server.ask(BAD_BODIES[name]).message


@pytest.mark.parametrize("title", ["date", "symbol"])
def test_text_that_is_no_unicode_is_refused(
    title: str, server: ModelServer, rows: list[Row]
) -> None:
    rows[3][title] = "\ud800"
    assert server.ask(records(rows)).message


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"every_date": "yes"}, "every_date"),
        ({"every_date": 1}, "every_date"),
        ({"every_date": [True]}, "every_date"),
        (
            {"as_of": "nonsense"},
            "as_of='nonsense' is not a date: write 2020-01-31, today or newest",
        ),
        ({"as_of": "2013-02-30"}, "as_of='2013-02-30' is not a date"),
        ({"as_of": ""}, "as_of='' is not a date"),
        ({"as_of": 20130301}, "as_of"),
        ({"max_age": "5"}, "max_age"),
        ({"max_age": 1.5}, "max_age"),
        ({"max_age": True}, "max_age"),
        ({"horizon": 5}, "this model forecasts 1 trading day ahead, not 5"),
        ({"horizon": -1}, "this model forecasts 1 trading day ahead, not -1"),
        ({"horizon": "1"}, "horizon"),
    ],
    ids=str,
)
def test_a_bad_parameter_is_refused_by_name(
    params: dict[str, Any], words: str, server: ModelServer, rows: list[Row]
) -> None:
    assert words in server.ask(records(rows, **params)).message


@pytest.mark.parametrize("params", [[], "every_date", 5])
def test_parameters_that_are_no_mapping_are_refused(
    params: Any, server: ModelServer, rows: list[Row]
) -> None:
    assert "dictionary" in server.ask({"dataframe_records": rows, "params": params}).message


def test_what_mlflow_itself_stumbles_over_gets_no_forecast_and_stops_nothing(
    server: ModelServer, rows: list[Row]
) -> None:
    good = json.dumps(records(rows)).encode()
    for body, headers in (
        (good, {}),
        (good, {"Content-Type": "application/xml"}),
        (b"[" * 100_000, JSON),
        (b'{"dataframe_records": [{"close": ' + b"9" * 5_000 + b"}]}", JSON),
    ):
        assert server.ask(body, headers).status >= 400
    assert len(server.ask(good).predictions) == 2


# -- notes ---------------------------------------------------------------------------------------


def notes(answer: list[Row]) -> dict[str, str]:
    return {each["symbol"]: each["note"] for each in answer}


UNSETTLED = f"{ROWS} rows, features settle with {CORE.settled_rows}"


@pytest.mark.parametrize("count", [1, CORE.lookback])
def test_too_few_rows_get_no_number(count: int, server: ModelServer, rows: list[Row]) -> None:
    few, enough = server.ask(records(rows[ROWS - count :])).predictions
    assert few == {
        "date": "2013-03-01",
        "symbol": "AAPL",
        "probability": None,
        "direction": None,
        "horizon": 1,
        "note": f"{count} row{'s' * (count > 1)} of the {CORE.min_rows} needed",
    }
    assert 0 < enough["probability"] < 1
    assert enough["direction"] in (0, 1)
    assert enough["note"] == UNSETTLED


@pytest.mark.parametrize(
    "symbol",
    ["../../etc/passwd", "<img src=x onerror=alert(1)>", "'; DROP TABLE runs; --", "BRK.B", "株"],
)
def test_a_symbol_never_seen_is_only_a_name(
    symbol: str, server: ModelServer, rows: list[Row]
) -> None:
    known = {each["symbol"]: each for each in server.ask(records(rows)).predictions}
    for row in rows[:ROWS]:
        row["symbol"] = symbol
    renamed = {each["symbol"]: each for each in server.ask(records(rows)).predictions}
    assert renamed.keys() == {symbol, "MSFT"}
    note = f"{UNSETTLED}; not seen in training"
    assert renamed[symbol] == {**known["AAPL"], "symbol": symbol, "note": note}
    assert renamed["MSFT"] == known["MSFT"]


def test_a_symbol_that_ends_early_is_stale(server: ModelServer, rows: list[Row]) -> None:
    late = [*rows[: ROWS - 1], *rows[ROWS:]]
    for age, row in enumerate(reversed(late[: ROWS - 1])):  # the Friday two weeks before, and back
        row["date"] = str(date(2013, 2, 15) - timedelta(days=age))
    told = notes(server.ask(records(late)).predictions)
    unsettled = UNSETTLED.replace(str(ROWS), str(ROWS - 1), 1)
    assert told == {"AAPL": f"{unsettled}; stale: 10 weekdays old", "MSFT": UNSETTLED}
    for patience in (10, -1):
        told = notes(server.ask(records(late, max_age=patience)).predictions)
        assert told == {"AAPL": unsettled, "MSFT": UNSETTLED}


def test_ages_count_from_the_day_asked_for(server: ModelServer, rows: list[Row]) -> None:
    def note(**params: Any) -> str:
        return notes(server.ask(records(rows, **params)).predictions)["MSFT"]

    assert note(as_of="2013-03-08") == UNSETTLED
    assert note(as_of="2013-03-11") == f"{UNSETTLED}; stale: 6 weekdays old"
    assert note(as_of="2013-03-04", max_age=0) == f"{UNSETTLED}; stale: 1 weekday old"
    refused = server.ask(records(rows, as_of="2013-02-28")).message
    assert "as_of=2013-02-28, but the prices go on to 2013-03-01" in refused
    assert "weekdays old" in note(as_of="today")
    assert note(as_of="today", every_date=True) == UNSETTLED


def test_the_horizon_may_be_asked_for_by_its_number(server: ModelServer, rows: list[Row]) -> None:
    answer = server.ask(records(rows, horizon=1)).predictions
    assert answer == server.ask(records(rows)).predictions
    assert {each["horizon"] for each in answer} == {1}
