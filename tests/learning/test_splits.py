"""Windows by date: hand-written calendars, and the no-look-ahead rule on generated ones."""

import json
from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steps.learning import splits
from steps.learning.splits import check_no_leak, purged_split, window_rows


def feature_table(calendars: dict[str, list[str]], horizon: int) -> pd.DataFrame:
    """Rows of several symbols, each label known `horizon` rows later."""
    parts = []
    for symbol, days in calendars.items():
        column = pd.Series(pd.to_datetime(days).as_unit("s"))
        parts.append(
            pd.DataFrame(
                {"date": column, "symbol": symbol, "label_known_at": column.shift(-horizon)}
            )
        )
    return pd.concat(parts, ignore_index=True)


def january(*days: int) -> list[str]:
    return [f"2024-01-{day:02d}" for day in days]


def split_of(table: pd.DataFrame, embargo: int, size: float = 0.2) -> splits.DateSplit:
    return purged_split(
        table["date"],
        table["label_known_at"],
        validation_size=size,
        test_size=size,
        embargo=embargo,
    )


def days_of(table: pd.DataFrame, rows: np.ndarray) -> list[tuple[str, int]]:
    kept = table.iloc[rows]
    return [(symbol, day.day) for symbol, day in zip(kept["symbol"], kept["date"], strict=True)]


# 16 days, horizon 1: 15 labelled dates, of which 0.2 are 3 of test (13-15) and 0.2 are 3 of
# validation (10-12); day d is known on d + 1.
# 31 days, horizon 5: 26 labelled dates, of which 0.1 are 3 of test (24-26) and 0.4 are 11 of
# validation (13-23); day d is known on d + 5. With horizon 1 there are 30: 28-30 and 16-27.
@pytest.mark.parametrize(
    ("days", "horizon", "sizes", "embargo", "train", "validation", "test"),
    [
        (16, 1, (0.2, 0.2), 0, range(1, 9), range(10, 12), range(13, 16)),
        (16, 1, (0.2, 0.2), 1, range(1, 8), range(10, 11), range(13, 16)),
        (31, 5, (0.4, 0.1), 0, range(1, 8), range(13, 19), range(24, 27)),
        (31, 5, (0.4, 0.1), 5, range(1, 3), range(13, 14), range(24, 27)),
        (31, 1, (0.4, 0.1), 5, range(1, 10), range(16, 22), range(28, 31)),
    ],
)
def test_one_symbol_by_hand(
    days: int,
    horizon: int,
    sizes: tuple[float, float],
    embargo: int,
    train: range,
    validation: range,
    test: range,
) -> None:
    table = feature_table({"A": january(*range(1, days + 1))}, horizon)
    split = purged_split(
        table["date"],
        table["label_known_at"],
        validation_size=sizes[0],
        test_size=sizes[1],
        embargo=embargo,
    )
    assert days_of(table, split.train) == [("A", day) for day in train]
    assert days_of(table, split.validation) == [("A", day) for day in validation]
    assert days_of(table, split.test) == [("A", day) for day in test]
    assert split.purged == days - horizon - len(train) - len(validation) - len(test)


def test_a_symbol_with_gaps_is_purged_by_its_own_label_date() -> None:
    table = feature_table({"A": january(*range(1, 17)), "B": january(2, 4, 11, 16)}, horizon=1)
    split = split_of(table, embargo=0)
    # Validation begins on day 10. B's label of day 4 is known on day 11 only: purged, though
    # A's of the same day stays. B's label of day 11 is known on day 16, inside test: purged.
    assert ("A", 4) in days_of(table, split.train)
    assert [row for row in days_of(table, split.train) if row[0] == "B"] == [("B", 2)]
    assert days_of(table, split.validation) == [("A", 10), ("A", 11)]
    assert split.purged == 4
    assert split.describe(table["symbol"]) == {
        "train": {
            "first_date": "2024-01-01",
            "last_date": "2024-01-08",
            "rows": 9,
            "symbols": 2,
            "last_label_known_at": "2024-01-09",
            "known_before": "2024-01-10",
        },
        "validation": {
            "first_date": "2024-01-10",
            "last_date": "2024-01-11",
            "rows": 2,
            "symbols": 1,
            "last_label_known_at": "2024-01-12",
            "known_before": "2024-01-13",
        },
        "test": {
            "first_date": "2024-01-13",
            "last_date": "2024-01-15",
            "rows": 3,
            "symbols": 1,
            "last_label_known_at": "2024-01-16",
        },
        "purged_rows": 4,
        "embargo": 0,
    }


def test_the_description_is_json_and_needs_no_symbols() -> None:
    split = split_of(feature_table({"A": january(*range(1, 17))}, 1), embargo=0)
    described = json.loads(json.dumps(split.describe()))
    assert described["train"] == {
        "first_date": "2024-01-01",
        "last_date": "2024-01-08",
        "rows": 8,
        "last_label_known_at": "2024-01-09",
        "known_before": "2024-01-10",
    }
    assert split.windows["test"] == splits.Window(
        date(2024, 1, 13), date(2024, 1, 15), 3, date(2024, 1, 16)
    )


def test_the_description_says_which_labels_the_embargo_let_pass() -> None:
    # Horizon 5: validation begins on day 13 and the test on day 24, each with 5 dates before
    # it kept free. Day 2 is known on day 7, before day 8; day 13 on day 18, before day 19.
    table = feature_table({"A": january(*range(1, 32))}, 5)
    split = purged_split(
        table["date"], table["label_known_at"], validation_size=0.4, test_size=0.1, embargo=5
    )
    said = split.describe()
    assert said["train"]["last_label_known_at"] == "2024-01-07"
    assert said["train"]["known_before"] == "2024-01-08"
    assert said["validation"]["last_label_known_at"] == "2024-01-18"
    assert said["validation"]["known_before"] == "2024-01-19"
    assert said["test"]["last_label_known_at"] == "2024-01-31"
    assert "known_before" not in said["test"]


def test_the_last_label_is_the_last_one_kept_not_the_last_rows() -> None:
    # B rests from day 3 to day 9, so its label of day 3 is known last, on day 9; A's of day 7,
    # the last row before validation, is known on day 8.
    table = feature_table({"A": january(1, 2, 3, 4, 5, 6, 7, 8), "B": january(3, 9, 10, 11)}, 1)
    known = table["label_known_at"].to_numpy()
    window = splits.window_of(table["date"].to_numpy(), known, np.array([0, 1, 6, 8]))
    assert window == splits.Window(date(2024, 1, 1), date(2024, 1, 7), 4, date(2024, 1, 9))


def test_shares_are_rounded_up_in_decimal() -> None:
    # 0.07 * 100 is a hair above 7 in binary.
    days = pd.Series(pd.date_range("2024-01-01", periods=101))
    split = purged_split(days[:100], days[1:], validation_size=0.101, test_size=0.07, embargo=0)
    assert len(split.test) == 7
    assert len(split.validation) == 11 - 1  # 10.1 rounded up, less the purged one


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n_symbols=st.integers(1, 3),
    presence=st.sampled_from([0.6, 0.9, 1.0]),
    horizon=st.integers(1, 5),
    embargo=st.integers(0, 5),
    size=st.sampled_from([0.2, 0.25, 0.3]),
)
def test_no_label_looks_ahead(
    seed: int, n_symbols: int, presence: float, horizon: int, embargo: int, size: float
) -> None:
    # Half a year in which each symbol misses days of its own, its rows in any order.
    random = np.random.default_rng(seed)
    half_year = np.array([str(day)[:10] for day in pd.bdate_range("2024-01-01", periods=130)])
    calendars = {
        symbol: half_year[random.random(130) < presence].tolist() for symbol in "ABC"[:n_symbols]
    }
    table = feature_table(calendars, horizon).sample(frac=1, random_state=seed, ignore_index=True)
    split = split_of(table, embargo, size)
    windows = [split.train, split.validation, split.test]
    labelled = table["label_known_at"].notna().to_numpy()
    together = np.concatenate(windows)
    assert labelled[together].all()
    assert len(set(together.tolist())) == len(together)
    assert len(together) + split.purged == labelled.sum()
    calendar = sorted(set(table["date"][labelled]))
    for earlier, later in ((split.train, split.validation), (split.validation, split.test)):
        first = table["date"].iloc[later].min()
        boundary = calendar[calendar.index(first) - embargo]
        assert (table["label_known_at"].iloc[earlier] < boundary).all()
        assert table["date"].iloc[earlier].max() < first
    # Nothing is purged that need not be: the oracle keeps exactly the same train rows.
    first_validation = calendar[-2 * int(np.ceil(round(size * len(calendar), 9)))]
    boundary = calendar[calendar.index(first_validation) - embargo]
    oracle = [
        row
        for row in range(len(table))
        if labelled[row]
        and table["date"][row] < first_validation
        and table["label_known_at"][row] < boundary
    ]
    assert split.train.tolist() == oracle


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validation_size": 0.0}, "validation_size must be above 0 and below 1"),
        ({"test_size": 1.0}, "test_size must be above 0 and below 1"),
        ({"embargo": -1}, "embargo must be 0 dates or more"),
        ({"validation_size": 0.5, "test_size": 0.5}, "leave no date to train on"),
        ({"embargo": 12}, "reaches back beyond the first labelled date"),
        ({"embargo": 9}, "train window is empty"),
        ({"embargo": 5}, "validation window is empty"),
        ({"dates": january(1)}, "two columns of one table"),
        ({"dates": [None, *january(*range(2, 17))]}, "Row 0 has no date"),
        ({"label_known_at": [None] * 16}, "No row has a known label"),
        ({"label_known_at": january(*range(1, 17))}, "not after its own date"),
        ({"dates": list("abcdefghijklmnop")}, "dates must hold dates"),
    ],
)
def test_what_cannot_be_split_is_refused_with_a_remedy(
    change: dict[str, object], message: str
) -> None:
    table = feature_table({"A": january(*range(1, 17))}, 1)
    asked: dict[str, object] = {
        "dates": table["date"],
        "label_known_at": table["label_known_at"],
        "validation_size": 0.2,
        "test_size": 0.2,
        "embargo": 0,
    } | change
    with pytest.raises(ValueError, match=message):
        purged_split(**asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("earlier", "fault"),
    [
        ([0, 1, 8], "row 8 .* label known too late"),
        ([0, 10], "row 10"),
        ([0, 15], "has no known label"),
    ],
)
def test_a_leak_is_refused_however_it_came_about(earlier: list[int], fault: str) -> None:
    table = feature_table({"A": january(*range(1, 17))}, 1)
    dates = table["date"].to_numpy().astype("datetime64[s]")
    known = table["label_known_at"].to_numpy().astype("datetime64[s]")
    later = np.arange(9, 12)
    check_no_leak(dates, known, np.arange(8), later, embargo=0)
    with pytest.raises(RuntimeError, match=fault):
        check_no_leak(dates, known, np.array(earlier), later, embargo=0)
    with pytest.raises(RuntimeError, match="row 7"):
        check_no_leak(dates, known, np.arange(8), later, embargo=1)


def test_a_window_is_found_again_by_its_description() -> None:
    table = feature_table({"A": january(*range(1, 17)), "B": january(2, 4, 11, 16)}, horizon=1)
    table["direction"] = pd.Series(1, table.index, "Int8").mask(table["label_known_at"].isna())
    split = split_of(table, embargo=0)
    described = json.loads(json.dumps(split.describe(table["symbol"])))
    for name in ("train", "validation", "test"):
        assert np.flatnonzero(window_rows(table, described[name])).tolist() == (
            getattr(split, name).tolist()
        )
    with pytest.raises(ValueError, match="lies in the model's window from 2024-01-13 to 2024-01-1"):
        window_rows(table[table["date"] < "2024-01-12"], described["test"])
