"""Prices as a table in memory are read as those of a file are: same values, same complaints."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steps.market.price_frame import read_frame
from steps.market.price_report import PriceError
from steps.market.prices import load_prices

SAMPLE = Path("steps/market/sample/prices.parquet")
ROWS = {
    "date": ["2020-01-03", "2020-01-02"],
    "symbol": ["A", "A"],
    "open": [2.0, 1.0],
    "high": [2.0, 1.0],
    "low": [2.0, 1.0],
    "close": [2.0, 1.0],
    "volume": [200, 100],
}


def read(**other: Any) -> pd.DataFrame:
    return read_frame(pd.DataFrame({**ROWS, **other}))


def test_it_reads_what_the_loader_reads() -> None:
    raw = pd.read_parquet(Path(__file__).parents[2] / SAMPLE)
    expected = load_prices("sample").table
    pd.testing.assert_frame_equal(read_frame(raw), expected)
    pd.testing.assert_frame_equal(read_frame(raw.sample(frac=1, random_state=0)), expected)
    texts = raw.assign(date=raw["date"].astype(str)).astype(object)
    pd.testing.assert_frame_equal(read_frame(texts), expected)


def test_titles_count_in_any_case_and_others_are_ignored() -> None:
    table = pd.DataFrame({**ROWS, "vwap": ["?", "?"]}).rename(columns=str.upper)
    pd.testing.assert_frame_equal(read_frame(table), read())


@pytest.mark.parametrize(
    "dates",
    [
        [20200103, 20200102],
        pd.to_datetime(["2020-01-03", "2020-01-02"]),
        [pd.Timestamp("2020-01-03").date(), pd.Timestamp("2020-01-02").date()],
        ["2020-01-03T16:00:00-05:00", "2020-01-02T16:00:00-05:00"],
        ["2020-01-03", pd.Timestamp("2020-01-02")],
    ],
)
def test_dates_of_all_kinds(dates: Any) -> None:
    pd.testing.assert_frame_equal(read(date=dates), read())


def test_numbers_may_be_texts_and_keep_every_bit() -> None:
    odd = [0.1 + 0.2, 1 / 3]
    prices = {name: list(map(repr, odd)) for name in ("open", "high", "low", "close")}
    assert read(**prices)["close"].tolist() == odd[::-1]


@pytest.mark.parametrize(
    ("cells", "complaint"),
    [
        ({"close": [2.0, "abc"]}, "row 2, column close: 'abc' is not a number"),
        ({"close": [2.0, True]}, "row 2, column close: 'True' is not a number"),
        ({"close": [True, True]}, "column close: it holds bool, not numbers"),
        ({"close": [2.0, None]}, "row 2, column close: the value is missing"),
        ({"close": [2.0, pd.NA]}, "row 2, column close: the value is missing"),
        ({"close": [2.0, float("nan")]}, "row 2, column close: the value is missing"),
        ({"close": [2.0, np.inf]}, "row 2, column close: inf is infinite"),
        ({"close": [[2.0], [1.0]]}, "column close: it holds list<item: double>, not numbers"),
        ({"close": [2.0, [1.0]]}, r"row 2, column close: '\[1.0\]' is not a number"),
        ({"close": [{"a": 1}, {"a": 2}]}, "column close: it holds struct"),
        ({"close": [2.0, 10**400]}, "row 2, column close"),
        ({"close": [2.0, 1 + 2j]}, "row 2, column close"),
        ({"volume": [200, -1]}, "row 2, column volume: -1.0 is negative"),
        ({"high": [2.0, 0.5]}, "row 2: high 0.5 is below low 1.0"),
        ({"symbol": ["A", None]}, "row 2, column symbol: the value is missing"),
        ({"symbol": [1.5, 2.5]}, "column symbol: it holds double, not text"),
        ({"date": ["2020-01-03"] * 2}, "row 2: A on 2020-01-03 is also on row 1"),
        ({"date": [1.5, 2.5]}, "column date: it holds double, not dates"),
        ({"date": ["2020-01-03", "yesterday"]}, "row 2, column date: 'yesterday' is not a date"),
        (
            {"date": ["2020-01-03", pd.Timestamp("2020-01-02", tz="UTC")]},
            "column date: time zones are mixed",
        ),
        ({"adj_close": [2.0, None]}, "row 2, column adj_close: the value is missing"),
        ({"adj close": [2.0, 1.0], "adj_close": [2.0, 1.0]}, "column adj_close is there 2 times"),
    ],
)
def test_what_cannot_be_right_is_refused_by_row(cells: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PriceError, match=complaint) as refused:
        read(**cells)
    assert str(refused.value).startswith("the table cannot be used: ")


def test_columns_that_are_missing_are_named() -> None:
    table = pd.DataFrame(ROWS).rename(columns={"close": "last"})
    with pytest.raises(PriceError, match="column close is missing — rename 'last' to close"):
        read_frame(table)


@pytest.mark.parametrize("table", [pd.DataFrame(ROWS).head(0), pd.DataFrame(), pd.DataFrame([1])])
def test_tables_with_nothing_in_them(table: pd.DataFrame) -> None:
    with pytest.raises(PriceError, match="cannot be used"):
        read_frame(table)


CELLS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers()),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2), st.datetimes(), st.binary(),
)  # fmt: skip


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(
    cells=st.lists(CELLS, min_size=2, max_size=2),
    column=st.sampled_from([*ROWS, "adj_close"]),
)
def test_whatever_stands_in_a_cell_it_is_read_or_refused(cells: list[Any], column: str) -> None:
    table = pd.DataFrame({**ROWS, column: pd.Series(cells, dtype=object)})
    try:
        read = read_frame(table)
    except PriceError:
        return
    assert np.isfinite(read.select_dtypes("number").to_numpy()).all()
    assert read["date"].notna().all()
