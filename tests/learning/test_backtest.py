"""The backtest: days worked out by hand, a ledger that trades share by share, and empyrical."""

from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steps.learning import backtest as module
from steps.learning.backtest import (
    Backtest,
    backtest_intervals,
    drawdown,
    equity,
    forward_returns,
    market_returns,
    positions,
    return_statistics,
    run_backtest,
)
from steps.learning.bootstrap import DateBootstrap
from steps.market.build import build_snapshot
from steps.market.features import get_feature_set
from steps.market.prices import load_prices

STATISTICS = (
    *("sharpe", "sortino", "max_drawdown", "total_return", "annual_return"),
    *("annual_volatility", "hit_rate"),
)


def days(*numbers: int) -> pd.Series:
    return pd.Series(pd.to_datetime([f"2024-01-{day:02d}" for day in numbers]).as_unit("s"))


def table_of(**symbols: list[tuple[int, float, float]]) -> pd.DataFrame:
    """A feature table from (day of January, overnight return, intraday return)."""
    parts = [
        pd.DataFrame(
            {
                "date": days(*(row[0] for row in rows)),
                "symbol": symbol,
                "overnight_return": [row[1] for row in rows],
                "intraday_return": [row[2] for row in rows],
            }
        )
        for symbol, rows in symbols.items()
    ]
    return pd.concat(parts, ignore_index=True)


def forecasts_of(**symbols: dict[int, str]) -> pd.DataFrame:
    """Forecasts "+" and "-" by day of January."""
    parts = [
        pd.DataFrame(
            {
                "date": days(*calls),
                "symbol": symbol,
                "probability": [0.6 if call == "+" else 0.4 for call in calls.values()],
                "threshold": 0.55,
            }
        )
        for symbol, calls in symbols.items()
    ]
    return pd.concat(parts, ignore_index=True)


# The first night is before anything is known, the last day after the last trade: absurd on purpose.
TWO_SYMBOLS = table_of(
    A=[(1, 9, 9), (2, 0.1, 0), (3, -0.1, 0.2), (4, 0, 0.1), (5, 0.2, -0.5), (6, 9, 9)],
    B=[(1, 9, 9), (2, 0, 0.1), (3, 0.1, 0.1), (4, -0.2, 0), (5, 0, 0.2), (6, 9, 9)],
)
FOUR_CALLS = forecasts_of(
    A=dict(zip(range(1, 5), "+-++", strict=True)), B=dict(zip(range(1, 5), "-++-", strict=True))
)
# Traded on days 2 to 5. Positions p from the open on, and q until then, of A and of B:
#
# long or flat, 1 day      A  p 1 0 1 1      q 0 1 0 1       B  p 0 1 1 0       q 0 0 1 1
#   day 2   A (1)(1 + 0) - 1 = 0                  B 0
#   day 3   A (1 - 0.1)(1) - 1 = -0.1             B (1)(1 + 0.1) - 1 = 0.1
#   day 4   A (1)(1 + 0.1) - 1 = 0.1              B (1 - 0.2)(1 + 0) - 1 = -0.2
#   day 5   A (1 + 0.2)(1 - 0.5) - 1 = -0.4       B (1 + 0)(1) - 1 = 0
#
# long or short, 1 day     A  p 1 -1 1 1     q 0 1 -1 1      B  p -1 1 1 -1     q 0 -1 1 1
#   day 2   A (1)(1 + 0) - 1 = 0                  B (1)(1 - 0.1) - 1 = -0.1
#   day 3   A (1 - 0.1)(1 - 0.2) - 1 = -0.28      B (1 - 0.1)(1 + 0.1) - 1 = -0.01
#   day 4   A (1 - 0)(1 + 0.1) - 1 = 0.1          B (1 - 0.2)(1 + 0) - 1 = -0.2
#   day 5   A (1 + 0.2)(1 - 0.5) - 1 = -0.4       B (1 + 0)(1 - 0.2) - 1 = -0.2
#
# long or flat, 2 days     A  p .5 .5 .5 1   q 0 .5 .5 .5    B  p 0 .5 1 .5     q 0 0 .5 1
#   day 2   A (1)(1 + 0) - 1 = 0                  B 0
#   day 3   A (1 - 0.05)(1 + 0.1) - 1 = 0.045     B (1)(1 + 0.05) - 1 = 0.05
#   day 4   A (1)(1 + 0.05) - 1 = 0.05            B (1 - 0.1)(1 + 0) - 1 = -0.1
#   day 5   A (1 + 0.1)(1 - 0.5) - 1 = -0.45      B (1 + 0)(1 + 0.1) - 1 = 0.1
BY_HAND = {
    ("long_flat", 1): {
        "gross": [0, 0, -0.05, -0.2],
        "turnover": [0.5, 1, 0.5, 0.5],
        "exposure": [0.5, 0.5, 1, 0.5],
        "position": [1, 0, 1, 1, 0, 1, 1, 0],
    },
    ("long_short", 1): {
        "gross": [-0.05, -0.145, -0.05, -0.3],
        "turnover": [1, 2, 1, 1],
        "exposure": [1, 1, 1, 1],
        "position": [1, -1, 1, 1, -1, 1, 1, -1],
    },
    ("long_flat", 2): {
        "gross": [0, 0.0475, -0.025, -0.175],
        "turnover": [0.25, 0.25, 0.25, 0.5],
        "exposure": [0.25, 0.5, 0.75, 0.75],
        "position": [0.5, 0.5, 0.5, 1, 0, 0.5, 1, 0.5],
    },
}


@pytest.mark.parametrize(("style", "horizon"), list(BY_HAND))
def test_two_symbols_by_hand(style: Any, horizon: int) -> None:
    expected = BY_HAND[style, horizon]
    result = run_backtest(FOUR_CALLS, TWO_SYMBOLS, horizon=horizon, style=style, cost_bps=100)
    daily = result.daily
    assert list(daily.index) == list(days(2, 3, 4, 5))
    assert daily.index.name == "date"
    for name in ("gross", "turnover", "exposure"):
        assert daily[name].tolist() == pytest.approx(expected[name])
    costs = [0.01 * change for change in expected["turnover"]]
    assert (daily["gross"] - daily["strategy"]).tolist() == pytest.approx(costs)
    # Day 3: A 0.9 * 1.2 - 1 = 0.08 and B 1.1 * 1.1 - 1 = 0.21; the night before day 2 is not
    # held, and buying on it costs 0.01.
    assert daily["buy_and_hold"].tolist() == pytest.approx([0.05 - 0.01, 0.145, -0.05, -0.1])
    assert result.positions.columns.tolist() == ["date", "symbol", "position"]
    assert result.positions["position"].tolist() == pytest.approx(expected["position"])
    assert result.positions["symbol"].tolist() == ["A"] * 4 + ["B"] * 4
    assert (result.style, result.cost_bps) == (style, 100)


def test_signals_are_followed_for_the_horizon() -> None:
    calls = forecasts_of(A=dict(zip(range(1, 7), "+---+-", strict=True)), B={1: "+", 2: "+"})
    third = pytest.approx
    assert positions(calls, "long_flat", 3).tolist() == third(
        [1 / 3, 1 / 3, 1 / 3, 0, 1 / 3, 1 / 3, 1 / 3, 2 / 3]
    )
    assert positions(calls, "long_short", 3).tolist() == third(
        [1 / 3, 0, -1 / 3, -1, -1 / 3, -1 / 3, 1 / 3, 2 / 3]
    )
    # A forecast at its threshold is no call.
    assert positions(calls.assign(threshold=0.6), "long_flat", 1).tolist() == [0] * 8


def test_symbols_count_on_the_days_they_trade() -> None:
    table = table_of(
        A=[(1, 0, 0), (2, 0, 0.1), (3, 0, 0.1), (4, 0, 0.1), (5, 0, 0.1), (8, 0, 0.1)],
        # B begins late, rests on day 4, and ends early.
        B=[(2, 0, 9), (3, 0, 0.3), (5, 0.3, 0), (8, 9, 9)],
    )
    calls = forecasts_of(A=dict(zip([1, 2, 3, 4, 5], "+++++", strict=True)), B={2: "+", 3: "+"})
    result = run_backtest(calls, table, horizon=1, cost_bps=0)
    assert list(result.daily.index) == list(days(2, 3, 4, 5, 8))
    # Day 5 of B brings the night since day 3; on day 8 it has no forecast to follow.
    assert result.daily["strategy"].tolist() == pytest.approx([0.1, 0.2, 0.1, 0.2, 0.1])
    pd.testing.assert_series_equal(
        result.daily["strategy"], result.daily["buy_and_hold"], check_names=False
    )


def test_a_day_without_a_forecast_adds_no_signal() -> None:
    table = table_of(A=[(day, 0, 0.1) for day in range(1, 7)])
    calls = forecasts_of(A={1: "+", 2: "+", 4: "+"})
    result = run_backtest(calls, table, horizon=2, cost_bps=0)
    assert result.positions["position"].tolist() == [0.5, 1, 0.5, 0.5]


@pytest.mark.parametrize("cost_bps", [0.0, 25.0])
def test_always_long_is_buy_and_hold(cost_bps: float) -> None:
    calls = FOUR_CALLS.assign(probability=0.9)
    for style in ("long_flat", "long_short"):
        daily = run_backtest(calls, TWO_SYMBOLS, horizon=1, style=style, cost_bps=cost_bps).daily  # type: ignore[arg-type]
        assert daily["strategy"].tolist() == pytest.approx(daily["buy_and_hold"].tolist())
        assert daily["exposure"].tolist() == [1] * 4
    # With longer signals it gets there part by part.
    daily = run_backtest(calls, TWO_SYMBOLS, horizon=2, cost_bps=0).daily
    assert daily["exposure"].tolist() == [0.5, 1, 1, 1]
    assert daily["strategy"].iloc[3] == pytest.approx(daily["buy_and_hold"].iloc[3])


Prices = dict[str, pd.DataFrame]


def random_market(
    seed: int, n_symbols: int, n_days: int = 40
) -> tuple[Prices, pd.DataFrame, pd.DataFrame]:
    """Opens and closes on days of each symbol's own; their returns; forecasts of some rows."""
    random = np.random.default_rng(seed)
    calendar = pd.Series(pd.bdate_range("2024-01-01", periods=n_days).as_unit("s"))
    prices: Prices = {}
    tables, calls = [], []
    for symbol in "ABCD"[:n_symbols]:
        kept = calendar[np.sort(random.permutation(n_days)[: random.integers(12, n_days + 1)])]
        rates = 1 + random.normal(0, 0.03, size=(len(kept), 2))
        path = 50 * np.cumprod(rates.ravel()).reshape(-1, 2)
        frame = pd.DataFrame({"date": kept.to_numpy(), "open": path[:, 0], "close": path[:, 1]})
        prices[symbol] = frame
        table = pd.DataFrame({"date": frame["date"], "symbol": symbol})
        table["overnight_return"] = (frame["open"] / frame["close"].shift(1) - 1).fillna(0.0)
        table["intraday_return"] = frame["close"] / frame["open"] - 1
        tables.append(table)
        first = random.integers(0, 4)
        last = len(table) - random.integers(1, 5)
        told = table.iloc[first:last][["date", "symbol"]]
        calls.append(told.assign(probability=random.random(len(told)), threshold=0.5))
    return prices, pd.concat(tables, ignore_index=True), pd.concat(calls, ignore_index=True)


def ledger(prices: Prices, calls: pd.DataFrame, horizon: int, style: str, cost: float) -> pd.Series:
    """Keep a book of money and shares, one event after another; return each day's return."""
    otherwise = {"long_flat": 0, "long_short": -1}[style]
    signals = {
        (row.symbol, row.date): 1 if row.probability > row.threshold else otherwise
        for row in calls.itertuples()
    }
    # Go through each symbol's history to note what is wanted at each of its opens.
    orders: dict[Any, list[tuple[float, float, float, float, float]]] = {}
    for symbol, frame in prices.items():
        told = [date for name, date in signals if name == symbol]
        recent: deque[int] = deque([0] * horizon, maxlen=horizon)
        held = 0.0
        for yesterday, today in pairwise(frame.itertuples()):
            # What was decided at the close before is traded at this open.
            recent.append(signals.get((symbol, yesterday.date), 0))
            if min(told) <= yesterday.date <= max(told):
                wanted = sum(recent) / horizon
                order = (yesterday.close, today.open, today.close, held, wanted)
                orders.setdefault(today.date, []).append(order)
                held = wanted
    capital, returns = 1.0, {}
    for date in sorted(orders):
        share = capital / len(orders[date])
        after = 0.0
        for close_before, opened, closed, held, wanted in orders[date]:
            # The evening before: as many shares as the position says, the rest in money. A
            # position of 0 or 1 needs no trade for that.
            shares = held * share / close_before
            money = share - shares * close_before
            # The open: trade to the new position.
            bought = wanted * (money + shares * opened) / opened - shares
            money -= bought * opened
            shares += bought
            # The close, and the broker's bill.
            after += money + shares * closed - cost * abs(wanted - held) * share
        returns[date] = after / capital - 1
        capital = after
    return pd.Series(returns)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n_symbols=st.integers(1, 4),
    horizon=st.integers(1, 6),
    style=st.sampled_from(["long_flat", "long_short"]),
    cost_bps=st.sampled_from([0.0, 5.0, 80.0]),
)
def test_it_agrees_with_a_ledger_of_money_and_shares(
    seed: int, n_symbols: int, horizon: int, style: Any, cost_bps: float
) -> None:
    prices, table, calls = random_market(seed, n_symbols)
    result = run_backtest(calls, table, horizon=horizon, style=style, cost_bps=cost_bps)
    expected = ledger(prices, calls, horizon, style, cost_bps / 10_000)
    assert list(result.daily.index) == list(expected.index)
    np.testing.assert_allclose(result.daily["strategy"], expected, atol=1e-12)


def test_long_or_flat_is_an_account_that_buys_and_sells_everything() -> None:
    prices, table, calls = random_market(seed=3, n_symbols=1)
    frame = prices["A"].set_index("date")
    up = {row.date: row.probability > row.threshold for row in calls.itertuples()}
    money, shares, worth = 1.0, 0.0, []
    for before, today in pairwise(frame.index):
        if before in up:
            if up[before] and not shares:
                money, shares = 0.0, money / frame["open"][today]
            elif shares and not up[before]:
                money, shares = shares * frame["open"][today], 0.0
            worth.append(money + shares * frame["close"][today])
    result = run_backtest(calls, table, horizon=1, cost_bps=0)
    np.testing.assert_allclose(result.equity()["strategy"], worth, rtol=1e-12)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n_symbols=st.integers(1, 4),
    horizon=st.integers(1, 6),
    style=st.sampled_from(["long_flat", "long_short"]),
    part=st.floats(0, 1),
)
def test_the_future_changes_nothing(
    seed: int, n_symbols: int, horizon: int, style: Any, part: float
) -> None:
    _, table, calls = random_market(seed, n_symbols)
    before = run_backtest(calls, table, horizon=horizon, style=style).daily
    cut = before.index[int(part * (len(before) - 1))]
    # Other returns after the day, and other forecasts from its close on.
    random = np.random.default_rng(seed + 1)
    table, calls = table.copy(), calls.copy()
    for name in ("overnight_return", "intraday_return"):
        table.loc[table["date"] > cut, name] = random.normal(0, 0.5)
    calls.loc[calls["date"] >= cut, "probability"] = random.random()
    after = run_backtest(calls, table, horizon=horizon, style=style).daily
    pd.testing.assert_frame_equal(after.loc[:cut], before.loc[:cut])


def test_costs_only_ever_take() -> None:
    _, table, calls = random_market(seed=8, n_symbols=3)
    totals = [
        run_backtest(calls, table, horizon=1, cost_bps=cost).statistics()["total_return"]
        for cost in (0, 5, 50)
    ]
    assert totals[0] > totals[1] > totals[2]


@pytest.fixture(scope="module")
def sample_prices() -> pd.DataFrame:
    return load_prices("sample").table


@pytest.fixture(scope="module")
def sample_table(sample_prices: pd.DataFrame) -> Callable[[int], pd.DataFrame]:
    tables = {
        horizon: build_snapshot(sample_prices, get_feature_set("core"), horizon).table
        for horizon in (1, 5)
    }
    return tables.__getitem__


@pytest.mark.parametrize("horizon", [1, 5])
def test_forward_returns_are_those_of_the_prices_and_of_the_label(
    sample_prices: pd.DataFrame, sample_table: Callable[[int], pd.DataFrame], horizon: int
) -> None:
    table = sample_table(horizon)
    found = forward_returns(table, horizon)
    close = sample_prices["close"]
    ahead = sample_prices.groupby("symbol")["close"].shift(-horizon) / close - 1
    expected = sample_prices[["date", "symbol"]].assign(expected=ahead)
    expected = table[["date", "symbol"]].merge(expected, on=["date", "symbol"])["expected"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    labelled = table["direction"].notna().to_numpy()
    assert (np.isnan(found) == ~labelled).all()
    # A night and a day of single precision are sure to some 1e-7.
    sure = labelled & (np.abs(expected.to_numpy()) > 1e-6 * horizon)
    assert sure.sum() > 0.98 * labelled.sum()
    assert ((found > 0) == (table["direction"] == 1).to_numpy(bool, na_value=False))[sure].all()
    assert np.abs(found[labelled & ~sure]).max() < 3e-6 * horizon


def test_who_knows_the_labels_earns_and_who_inverts_them_loses(
    sample_table: Callable[[int], pd.DataFrame],
) -> None:
    table = sample_table(1)
    calls = table.loc[table["direction"].notna(), ["date", "symbol"]].assign(threshold=0.5)
    known = table["direction"].dropna().to_numpy(np.float64)
    knows = run_backtest(
        calls.assign(probability=known), table, horizon=1, style="long_short", cost_bps=0
    ).statistics()
    errs = run_backtest(
        calls.assign(probability=1 - known), table, horizon=1, style="long_short", cost_bps=0
    ).statistics()
    assert knows["sharpe"] > 5
    assert knows["sharpe"] > knows["buy_and_hold_sharpe"] == errs["buy_and_hold_sharpe"]
    assert errs["sharpe"] < -5
    assert errs["total_return"] == pytest.approx(-1, abs=0.01)


def test_market_returns_come_from_the_features_if_they_can(
    sample_table: Callable[[int], pd.DataFrame],
) -> None:
    table = sample_table(1)
    market = market_returns(table)
    assert market is not None
    assert market.dtypes.astype(str).tolist() == [
        "datetime64[s]",
        "str",
        "float64",
        "float64",
    ]
    assert (market["overnight"] == table["overnight_return"]).all()
    poorer = table.drop(columns="overnight_return")
    assert market_returns(poorer) is None
    assert np.isnan(forward_returns(poorer, 1)).all()
    assert forward_returns(poorer, 1).shape == (len(table),)


def backtest_of(strategy: list[float], **columns: list[float]) -> Backtest:
    n_days = len(strategy)
    daily = {
        "strategy": strategy,
        "gross": strategy,
        "buy_and_hold": strategy,
        "exposure": [1.0] * n_days,
        "turnover": [0.0] * n_days,
    } | columns
    index = pd.bdate_range("2024-01-01", periods=n_days, name="date").as_unit("s")
    return Backtest(pd.DataFrame(daily, index=index), pd.DataFrame(), "long_flat", 0.0)


def test_statistics_by_hand() -> None:
    result = backtest_of(
        [0.0, 0.1, -0.2, 0.05],
        exposure=[0, 1, 0, 0.5],
        turnover=[0, 1, 1, 0.5],
        buy_and_hold=[0.01, -0.01, 0.02, 0.03],
    )
    found = result.statistics()
    # Equity 1, 1.1, 0.88, 0.924. Mean -0.0125; squared deviations 0.00015625, 0.01265625,
    # 0.03515625 and 0.00390625, of 3 degrees of freedom; one loss of 0.2 in four days.
    assert found["total_return"] == pytest.approx(-0.076)
    assert found["max_drawdown"] == pytest.approx(-0.2)
    deviation = (0.051875 / 3) ** 0.5
    assert found["annual_volatility"] == pytest.approx(deviation * 252**0.5)
    assert found["sharpe"] == pytest.approx(-0.0125 / deviation * 252**0.5)
    assert found["sortino"] == pytest.approx(-0.0125 / 0.1 * 252**0.5)
    assert found["annual_return"] == pytest.approx(0.924**63 - 1)
    # On day 3 all was sold at the open, after the night: it counts. Day 1 does not.
    assert found["hit_rate"] == pytest.approx(2 / 3)
    assert found["exposure"] == pytest.approx(0.375)
    assert found["turnover"] == pytest.approx(0.625)
    assert found["buy_and_hold_hit_rate"] == pytest.approx(0.75)
    assert found["buy_and_hold_max_drawdown"] == pytest.approx(-0.01)
    assert set(found) == {
        *STATISTICS,
        *("exposure", "turnover"),
        *(f"buy_and_hold_{name}" for name in STATISTICS),
    }


def test_what_is_undefined_is_nan() -> None:
    idle = backtest_of([0.0] * 4, exposure=[0.0] * 4, buy_and_hold=[0.01] * 4).statistics()
    for name in ("sharpe", "sortino", "hit_rate", "buy_and_hold_sharpe", "buy_and_hold_sortino"):
        assert np.isnan(idle[name]), name
    for name in ("total_return", "annual_return", "annual_volatility", "max_drawdown"):
        assert idle[name] == 0, name
    one_day = backtest_of([-0.01]).statistics()
    for name in ("sharpe", "sortino", "annual_volatility"):
        assert np.isnan(one_day[name]), name
    assert one_day["max_drawdown"] == pytest.approx(-0.01)


def test_what_is_lost_stays_lost() -> None:
    assert equity([0.5, -1.2, 3.0]).tolist() == [1.5, 0, 0]
    found = return_statistics([0.5, -1.2, 3.0])
    assert (found["total_return"], found["annual_return"], found["max_drawdown"]) == (-1, -1, -1)


def test_a_capital_falls_from_where_it_began() -> None:
    assert drawdown([0.8, 0.9, 1.2, 0.3]).tolist() == pytest.approx([-0.2, -0.1, 0, -0.75])


@pytest.mark.slow
def test_statistics_agree_with_empyrical() -> None:
    import empyrical

    random = np.random.default_rng(4)
    for n_days, drift in ((2, 0.001), (60, -0.004), (700, 0.0005)):
        returns = pd.Series(random.normal(drift, 0.012, size=n_days))
        found = return_statistics(returns)
        expected = {
            "sharpe": empyrical.sharpe_ratio(returns),
            "sortino": empyrical.sortino_ratio(returns),
            "max_drawdown": empyrical.max_drawdown(returns),
            "total_return": empyrical.cum_returns_final(returns),
            "annual_return": empyrical.annual_return(returns),
            "annual_volatility": empyrical.annual_volatility(returns),
        }
        assert found == pytest.approx(expected, rel=1e-9)
        np.testing.assert_allclose(equity(returns) - 1, empyrical.cum_returns(returns))


def test_intervals_hold_the_annual_figures_of_drawn_days() -> None:
    random = np.random.default_rng(2)
    market = random.normal(0.0005, 0.01, size=400)
    result = backtest_of(
        (0.5 * market + random.normal(0.0005, 0.002, size=400)).tolist(),
        buy_and_hold=market.tolist(),
    )
    found = backtest_intervals(result, horizon=1, n_resamples=400)
    said = result.statistics()
    assert found["sharpe"].value == pytest.approx(said["sharpe"])
    assert found["sharpe_gain"].value == pytest.approx(said["sharpe"] - said["buy_and_hold_sharpe"])
    for interval in found.values():
        assert interval.low < interval.value < interval.high
        assert (interval.block_length, interval.n_resamples) == (10, 400)
    # Drawn together, market days of both cancel: the gain is surer than the two apart.
    alone = backtest_intervals(backtest_of(market.tolist()), horizon=1, n_resamples=400)["sharpe"]
    apart = np.hypot(alone.high - alone.low, found["sharpe"].high - found["sharpe"].low)
    assert found["sharpe_gain"].high - found["sharpe_gain"].low < 0.9 * apart
    assert backtest_intervals(result, horizon=20)["sharpe"].block_length == 40


def test_drawn_days_count_as_often_as_they_are_drawn() -> None:
    random = np.random.default_rng(6)
    returns = random.normal(0.001, 0.02, size=50)
    draws = random.integers(50, size=(20, 50))
    counts = np.stack([np.bincount(draw, minlength=50) for draw in draws]).astype(np.float64)
    found = module._weighted_sharpe(returns)(counts)
    expected = [returns[draw].mean() / returns[draw].std(ddof=1) * 252**0.5 for draw in draws]
    np.testing.assert_allclose(found, expected)


def test_intervals_say_nothing_where_nothing_can_be_said() -> None:
    idle = backtest_intervals(backtest_of([0.0] * 60), horizon=1)["sharpe"]
    short = backtest_intervals(backtest_of([0.01, -0.01] * 9), horizon=1)["sharpe"]
    for interval in (idle, short):
        assert np.isnan([interval.low, interval.high]).all()
        assert interval.n_resamples == 0
    assert np.isnan(idle.value)
    # Constant returns, too, have no spread, whatever rounding says.
    weights = np.ones((1, 60))
    assert np.isnan(module._weighted_sharpe(np.full(60, 0.1))(weights)).all()


@pytest.mark.slow
def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    # Daily Sharpe ratio 0.05, 0.79 a year; 400 samples of two years. 95 % of 400 has a standard
    # error of 1.1 points; allowed are three, and a little for the bootstrap itself.
    random = np.random.default_rng(9)
    held = 0
    for _ in range(400):
        sample = random.normal(0.0005, 0.01, size=504)
        interval = backtest_intervals(backtest_of(sample.tolist()), horizon=1, n_resamples=300)
        held += interval["sharpe"].low <= 0.05 * 252**0.5 <= interval["sharpe"].high
    assert 0.91 <= held / 400 <= 0.985


def test_the_same_seed_gives_the_same_interval() -> None:
    random = np.random.default_rng(5)
    result = backtest_of(random.normal(0, 0.01, size=100).tolist())
    first, second, other = (
        backtest_intervals(result, horizon=1, n_resamples=50, random_state=seed)
        for seed in (1, 1, 2)
    )
    assert first == second != other
    assert DateBootstrap(result.daily.index, block_length=10).n_blocks == 10


def changed(what: str) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    calls, table, options = FOUR_CALLS, TWO_SYMBOLS, {"horizon": 1}
    if what == "no returns":
        table = table.drop(columns="intraday_return")
    elif what == "twice":
        calls = pd.concat([calls, calls.tail(1)], ignore_index=True)
    elif what == "another table":
        table = table[table["symbol"] == "A"]
    elif what == "no next day":
        table = table[table["date"] == "2024-01-01"]
        calls = calls[calls["date"] == "2024-01-01"]
    elif what == "no forecasts":
        calls = calls.iloc[:0]
    elif what == "a gap":
        calls = calls.assign(probability=[np.nan, *calls["probability"][1:]])
    elif what == "unsorted":
        table = table.iloc[::-1]
    return calls, table, options


@pytest.mark.parametrize(
    ("what", "options", "message"),
    [
        ("no returns", {}, "Use a feature set that has both, such as 'core'"),
        ("twice", {}, "a date and symbol more than once"),
        ("another table", {}, "4 of 8 predictions are of a date and symbol that the table"),
        ("no next day", {}, "no forecast followed by another day"),
        ("no forecasts", {}, "no forecast followed by another day"),
        ("a gap", {}, r"Row 0 \(A, 2024-01-01\) has no forecast"),
        ("unsorted", {}, r"Row 1 \(B, 2024-01-05\) is not after its symbol's row before"),
        ("", {"horizon": 0}, "horizon must be 1 trading day or more"),
        ("", {"cost_bps": -1}, "cost_bps must be 0 basis points or more"),
        ("", {"cost_bps": np.nan}, "cost_bps must be 0 basis points or more"),
        ("", {"style": "short"}, "Unknown style 'short'; choose one of"),
    ],
)
def test_what_cannot_be_traded_is_refused(what: str, options: dict[str, Any], message: str) -> None:
    calls, table, defaults = changed(what)
    with pytest.raises(ValueError, match=message):
        run_backtest(calls, table, **(defaults | options))


def test_dates_of_another_precision_are_the_same_dates() -> None:
    # As a Parquet file gives them back.
    calls = FOUR_CALLS.assign(date=FOUR_CALLS["date"].astype("datetime64[ns]"))
    pd.testing.assert_frame_equal(
        run_backtest(calls, TWO_SYMBOLS, horizon=1).daily,
        run_backtest(FOUR_CALLS, TWO_SYMBOLS, horizon=1).daily,
    )
