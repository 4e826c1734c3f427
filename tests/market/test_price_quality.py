from datetime import date

import numpy as np
import pandas as pd
import pytest

from steps.market.price_quality import describe_quality
from steps.market.prices import load_prices, open_prices

SAMPLE_SYMBOLS = ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
WEEKDAYS = pd.bdate_range("2024-01-01", periods=300).astype("datetime64[s]")  # from a Monday on
RISING = [100.0 + n for n in range(20)]
LATE = {"A08": 2, "B07": 3, "C00": 10, "Z11": 11}


def history(symbol, closes, *, opens=None, volume=1.0, without=(), dates=WEEKDAYS):
    """One symbol's rows on consecutive weekdays, but for those at the places `without`."""
    close = np.asarray(closes, dtype=float)
    table = pd.DataFrame(
        {
            "date": dates[: close.size],
            "symbol": pd.array([symbol] * close.size, dtype="str"),
            "open": close if opens is None else opens,
            "high": close,
            "low": close,
            "close": close,
            "volume": np.broadcast_to(np.asarray(volume, dtype=float), close.shape),
        }
    )
    return table.drop(index=list(without))


def quality(*histories, **changes):
    prices = pd.concat(histories, ignore_index=True)
    options = {
        "known_symbols": set(prices["symbol"]),
        "needed_rows": 1,
        "settled_rows": 1,
        "as_of": prices["date"].max().date(),
        "max_age": 3,
    }
    return describe_quality(prices, **{**options, **changes})


def texts(found, kind=None):
    return [each.text for each in found.oddities if kind in (None, each.kind)]


def column(found, name):
    return dict(zip(found.symbols["symbol"], found.symbols[name], strict=True))


def test_ordinary_prices_are_not_odd():
    found = quality(history("AAA", RISING), history("BBB", RISING))
    assert texts(found) == []
    assert found.symbols.to_dict("records") == [
        {
            "symbol": symbol,
            "first_date": pd.Timestamp("2024-01-01"),
            "last_date": pd.Timestamp("2024-01-26"),
            "rows": 20,
            "missing_days": 0,
            "zero_volume_days": 0,
            "longest_unchanged": 1,
            "largest_move": pytest.approx(0.01),
            "age": 0,
        }
        for symbol in ("AAA", "BBB")
    ]


# --- how old, how long, which ---


def test_stale_symbol_is_named():
    found = quality(
        history("AAA", RISING), history("BBB", RISING[:16]), as_of=date(2024, 1, 30), max_age=2
    )
    assert texts(found) == [
        "BBB ends on 2024-01-22, 6 weekdays before 2024-01-30, where 2 are allowed"
    ]
    assert column(found, "age") == {"AAA": 2, "BBB": 6}


def test_prices_that_are_all_stale_are_one_oddity():
    found = quality(history("AAA", RISING), history("BBB", RISING[:16]), as_of=date(2024, 2, 1))
    (oddity,) = found.oddities
    assert (oddity.kind, oddity.symbol) == ("all stale", "")
    assert oddity.text == (
        "all prices are old: the newest are of 2024-01-26, 4 weekdays before 2024-02-01, "
        "where 3 are allowed"
    )


def test_missing_and_unknown_symbols_are_named_once():
    found = quality(history("BBB", RISING), history("CCC", RISING), known_symbols=["BBB", "AAA"])
    assert [(each.kind, each.symbol, each.text) for each in found.oddities] == [
        ("missing", "", "no prices of 1 symbol that the model was trained on: AAA"),
        ("unknown", "", "1 symbol that the model was not trained on: CCC"),
    ]
    found = quality(history("BBB", RISING), known_symbols=[f"S{n:02}" for n in range(12)])
    names = ", ".join(f"S{n:02}" for n in range(10))
    assert texts(found) == [
        f"no prices of 12 symbols that the model was trained on: {names} and 2 more",
        "1 symbol that the model was not trained on: BBB",
    ]


def test_too_few_rows_and_rows_that_do_not_settle():
    parts = [history(f"S{rows}", RISING[:rows]) for rows in (9, 10, 14, 15)]
    found = quality(*parts, needed_rows=10, settled_rows=15, max_age=20)
    assert texts(found) == [
        "S9 has 9 rows of the 10 a forecast needs",
        "2 symbols with fewer than 15 rows, so that features differ from those of any longer "
        "history: S10 (10 rows), S14 (14 rows)",
    ]


def test_rows_must_settle_before_since():
    parts = [history(symbol, RISING, without=range(late)) for symbol, late in LATE.items()]
    found = quality(*parts, needed_rows=10, settled_rows=9, since=WEEKDAYS[10].date())
    # With the first new row A08 has nine. Z11 has not enough rows at all.
    assert [(each.kind, each.symbol) for each in found.oddities] == [
        ("too few rows", "Z11"),
        ("not settled", ""),
    ]
    assert texts(found, "not settled") == [
        "2 symbols with fewer than 8 rows before 2024-01-15, so that features differ from those "
        "of any longer history: B07 (7 rows), C00 (0 rows)"
    ]


def test_no_prices_at_all():
    found = quality(history("AAA", RISING).iloc[:0], known_symbols=["AAA"], as_of=date(2024, 1, 1))
    assert [each.kind for each in found.oddities] == ["missing"]
    assert found.symbols.empty
    assert (found.symbols.dtypes == quality(history("AAA", RISING)).symbols.dtypes).all()


# --- gaps ---


def test_gap_is_where_most_others_have_prices():
    found = quality(
        history("AAA", RISING),
        history("BBB", RISING, without=(3, 4, 9)),
        history("CCC", RISING, without=(7,)),
    )
    assert column(found, "missing_days") == {"AAA": 0, "BBB": 3, "CCC": 1}
    assert texts(found) == [
        "BBB lacks 3 days on which most other symbols have prices (2024-01-04 to 2024-01-12)",
        "CCC lacks 1 day on which most other symbols have prices (2024-01-10)",
    ]


def test_day_that_half_of_the_others_lack_is_no_gap():
    found = quality(
        history("AAA", RISING),
        history("BBB", RISING, without=(3,)),
        history("CCC", RISING, without=(3,)),
    )
    assert texts(found) == []


def test_days_before_the_first_and_after_the_last_are_no_gap():
    late = history("BBB", RISING, without=range(10))
    found = quality(history("AAA", RISING), late, history("CCC", RISING[:12]), max_age=10)
    assert texts(found) == []


def test_symbols_listed_later_do_not_hide_a_gap():
    late = [history(f"L{n}", RISING, without=range(10)) for n in range(5)]
    found = quality(history("AAA", RISING), history("BBB", RISING, without=(4,)), *late)
    assert column(found, "missing_days")["BBB"] == 1


def test_one_symbol_alone_has_no_gap():
    assert texts(quality(history("AAA", RISING, without=range(3, 12)))) == []


# --- volume, closes, moves ---


def test_zero_volume_is_odd_on_more_than_one_day_in_twenty():
    once, twice = np.ones(20), np.ones(20)
    once[5], twice[[5, 19]] = 0.0, 0.0
    found = quality(history("AAA", RISING, volume=once), history("BBB", RISING, volume=twice))
    assert column(found, "zero_volume_days") == {"AAA": 1, "BBB": 2}
    assert texts(found) == ["BBB has no volume on 2 of 20 days"]


def test_unchanged_closes_are_odd_from_five_on():
    four, five = list(RISING), list(RISING)
    four[3:7], five[3:8], five[10:16] = [50.0] * 4, [70.0] * 5, [110.0] * 6
    found = quality(history("AAA", four), history("BBB", five))
    assert column(found, "longest_unchanged") == {"AAA": 4, "BBB": 6}
    assert texts(found, "unchanged") == [
        "BBB closes at the same price 6 days in a row (2024-01-15 to 2024-01-22); 1 more such run"
    ]


def test_last_of_equally_long_runs_is_named():
    found = quality(history("AAA", [*[5.0] * 5, *[6.0] * 5]))
    assert texts(found) == [
        "AAA closes at the same price 5 days in a row (2024-01-08 to 2024-01-12); 1 more such run"
    ]


def test_run_of_closes_ends_with_its_symbol():
    found = quality(history("AAA", [5.0] * 3), history("BBB", [5.0] * 4))
    assert column(found, "longest_unchanged") == {"AAA": 3, "BBB": 4}
    assert texts(found) == []


@pytest.mark.parametrize(
    ("ratio", "named"),
    [
        (0.5, "1/2"),
        (0.5 * 1.019, "1/2"),
        (2.0, "2"),
        (1.5, "3/2"),
        (0.669, "2/3"),
        (1 / 3, "1/3"),
        (0.1, "1/10"),
        (10.1, "10"),
        (1 / 20, "1/20"),
    ],
)
def test_ratio_near_that_of_a_split_is_said(ratio, named):
    found = quality(history("AAA", [100.0, 100.0 * ratio]))
    (oddity,) = found.oddities
    assert (oddity.kind, oddity.symbol) == ("split", "AAA")
    assert f"near {named}, as at a split that prices are not adjusted for" in oddity.text


def test_split_shows_at_the_open_though_the_day_went_on():
    found = quality(history("AAA", [101.25, 55.63], opens=[101.0, 50.50]))
    assert texts(found) == [
        "AAA falls 45 % on 2024-01-02, from 101.25 to 55.63: near 1/2, as at a split that prices "
        "are not adjusted for"
    ]


@pytest.mark.parametrize("ratio", [0.8, 1.25, 0.57, 1.45, 0.72])
def test_smaller_moves_that_are_no_split_are_not_odd(ratio):
    assert texts(quality(history("AAA", [100.0, 100.0 * ratio]))) == []


def test_large_moves_name_the_largest():
    found = quality(history("AAA", [10.0, 17.0, 3.0, 3.1, 7.0]), history("BBB", [7.0, 7.0]))
    assert texts(found, "large move") == [
        "AAA rises 126 % on 2024-01-05, from 3.1 to 7; 2 more such days"
    ]
    assert column(found, "largest_move")["AAA"] == pytest.approx(7.0 / 3.1 - 1.0)
    assert column(found, "largest_move")["BBB"] == 0.0


def test_largest_move_keeps_its_sign_and_is_unknown_for_one_row():
    found = quality(history("AAA", [10.0, 11.0, 9.0]), history("BBB", [10.0]), max_age=5)
    assert column(found, "largest_move")["AAA"] == pytest.approx(9.0 / 11.0 - 1.0)
    assert np.isnan(column(found, "largest_move")["BBB"])


# --- since ---


def test_since_leaves_out_what_happened_before():
    odd = [100.0] * 6 + [200.0] + RISING[:13]
    first = history("AAA", odd, volume=[0.0] * 7 + [1.0] * 13, without=(8,))
    parts = (first, history("BBB", RISING), history("CCC", RISING))
    assert {each.kind for each in quality(*parts).oddities} == {
        "gaps",
        "zero volume",
        "unchanged",
        "split",
    }
    found = quality(*parts, since=date(2024, 1, 12))
    assert texts(found) == []
    assert found.symbols.iloc[0].to_dict() == {
        "symbol": "AAA",
        "first_date": pd.Timestamp("2024-01-01"),
        "last_date": pd.Timestamp("2024-01-26"),
        "rows": 19,
        "missing_days": 0,
        "zero_volume_days": 0,
        "longest_unchanged": 1,
        "largest_move": pytest.approx(102.0 / 100.0 - 1.0),
        "age": 0,
    }


def test_since_counts_a_move_on_that_day_and_a_run_that_lasts():
    closes = [*RISING[:10], *[60.0] * 6]
    parts = (history("AAA", closes), history("BBB", RISING[:16]))
    found = quality(*parts, since=date(2024, 1, 15))
    assert [each.kind for each in found.oddities] == ["unchanged"]
    assert column(found, "longest_unchanged") == {"AAA": 6, "BBB": 1}
    assert column(found, "largest_move")["AAA"] == pytest.approx(60.0 / 109.0 - 1.0)
    later = quality(*parts, since=date(2024, 1, 22))
    assert column(later, "longest_unchanged") == {"AAA": 6, "BBB": 1}
    assert column(later, "largest_move")["AAA"] == 0.0


def test_since_after_the_last_row_finds_nothing():
    found = quality(history("AAA", [5.0] * 9, volume=0.0), since=date(2025, 1, 1))
    assert texts(found) == []
    assert column(found, "longest_unchanged") == {"AAA": 0}
    assert np.isnan(column(found, "largest_move")["AAA"])


# --- against loops ---


def random_histories(rng):
    """A few symbols with gaps, zero volumes and few different closes."""
    dates = rng.integers(1, 13)
    return [
        history(
            f"S{n}",
            rng.choice([1.0, 1.2, 3.0], dates),
            volume=rng.choice([0.0, 5.0], dates),
            without=rng.permutation(dates)[1:][rng.random(dates - 1) < 0.4],
        )
        for n in range(rng.integers(1, 6))
    ], rng.choice([None, *WEEKDAYS[:dates]])


def in_loops(parts, since):
    """The table's columns, written out."""
    start = pd.Timestamp(0) if since is None else since
    dates = {part["symbol"].iloc[0]: list(part["date"]) for part in parts}
    for part in parts:
        symbol, own = part["symbol"].iloc[0], list(part["date"])
        missing = 0
        for day in {day for each in dates.values() for day in each if day >= start}:
            others = [d for s, d in dates.items() if s != symbol and d[0] <= day <= d[-1]]
            having = [day in each for each in others]
            if own[0] < day < own[-1] and day not in own and 2 * sum(having) > len(having):
                missing += 1
        close = list(part["close"])
        longest = run = 0
        moves = []
        for n, day in enumerate(own):
            run = run + 1 if n and close[n] == close[n - 1] else 1
            if day >= start:
                longest = max(longest, run)
                if n:
                    moves.append(close[n] / close[n - 1] - 1.0)
        recent = part[part["date"] >= start]
        yield {
            "missing_days": missing,
            "zero_volume_days": int((recent["volume"] == 0.0).sum()),
            "longest_unchanged": longest,
            "largest_move": max(moves, key=abs, default=np.nan),
        }


def test_columns_agree_with_loops():
    rng = np.random.default_rng(0)
    for _ in range(30):
        parts, since = random_histories(rng)
        found = quality(*parts, since=None if since is None else since.date()).symbols
        expected = pd.DataFrame(list(in_loops(parts, since)))
        pd.testing.assert_frame_equal(found[list(expected)], expected, check_dtype=False)


# --- real prices ---


def test_bundled_prices():
    found = describe_quality(
        load_prices("sample").table,
        known_symbols=SAMPLE_SYMBOLS,
        needed_rows=34,
        settled_rows=701,
        as_of=date(2013, 3, 4),
        max_age=1,
    )
    assert found.symbols["symbol"].tolist() == SAMPLE_SYMBOLS
    assert found.symbols["rows"].tolist() == [3270, 196, 2148, 3270, 3270]
    assert not found.symbols[["missing_days", "zero_volume_days"]].any(axis=None)
    assert [(each.kind, each.symbol) for each in found.oddities] == [
        ("not settled", ""),  # FB
        ("large move", "AAPL"),  # the profit warning of September 2000
    ]
    assert found.oddities[-1].text.startswith("AAPL falls 52 % on 2000-09-29")


def test_all_splits_of_the_bundled_prices_are_found_where_they_are_not_adjusted():
    with open_prices("sample") as files:
        raw = pd.read_parquet(files.paths[0]).drop(columns="adj_close")
    raw["date"] = pd.to_datetime(raw["date"]).astype("datetime64[s]")
    found = describe_quality(
        raw,
        known_symbols=SAMPLE_SYMBOLS,
        needed_rows=1,
        settled_rows=1,
        as_of=date(2013, 3, 4),
        max_age=1,
    )
    assert texts(found, "split") == [
        "AAPL falls 50 % on 2005-02-28, from 88.99 to 44.86: near 1/2, as at a split that prices "
        "are not adjusted for; 1 more such day",
        "MSFT falls 48 % on 2003-02-18, from 48.3 to 24.96: near 1/2, as at a split that prices "
        "are not adjusted for",
    ]


def test_unsorted_prices_are_refused():
    with pytest.raises(ValueError, match="sorted by symbol and date"):
        quality(history("AAA", RISING).iloc[::-1])
