"""What forecasts would have earned: traded at the next open, with costs, beside buy and hold."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from steps.learning.bootstrap import DateBootstrap, Interval, Statistic, block_length
from steps.learning.scores import Floats
from steps.learning.sharpe import annualise, sharpe_ratio

Style = Literal["long_flat", "long_short"]
_DAYS_PER_YEAR = 252
# A forecast of a rise is a long position; this is any other forecast's.
_OTHERWISE: dict[str, float] = {"long_flat": 0.0, "long_short": -1.0}


@dataclass(frozen=True, eq=False)
class Backtest:
    """What a strategy did, day by day.

    Attributes
    ----------
    daily : DataFrame, indexed by date
        `strategy` (return after costs), `gross` (before), `buy_and_hold` (always long, after
        costs), `exposure` (mean absolute position from the open on), `turnover` (mean
        absolute change of position at the open). Returns are fractions: 0.01 is 1 %.
    positions : DataFrame
        `date`, `symbol` and `position`, held from that date's open on, as a fraction of the
        symbol's share of the capital; in the order of the table.
    style : {'long_flat', 'long_short'}
        As in `positions`.
    cost_bps : float
        Cost of a trade, in hundredths of a per cent of what is traded.
    """

    daily: pd.DataFrame
    positions: pd.DataFrame
    style: Style
    cost_bps: float

    def equity(self) -> pd.DataFrame:
        """Return what a capital of 1 became: `strategy` and `buy_and_hold` by date."""
        return pd.DataFrame(
            {name: equity(self.daily[name]) for name in ("strategy", "buy_and_hold")},
            index=self.daily.index,
        )

    def statistics(self) -> dict[str, float]:
        """Sum the days up.

        Returns
        -------
        dict of str to float
            `sharpe`, `sortino`, `max_drawdown`, `total_return`, `annual_return`,
            `annual_volatility`, `hit_rate`: see `return_statistics`; the hit rate counts days
            on which something was held. `exposure` and `turnover`: means per day. The first
            seven of buy and hold again as `buy_and_hold_...`. NaN where one is undefined.
        """
        strategy, held = self.daily["strategy"], self.daily["buy_and_hold"]
        # Who sells at the open has held overnight.
        invested = (self.daily["exposure"] > 0) | (self.daily["turnover"] > 0)
        benchmark = {**return_statistics(held), "hit_rate": _hit_rate(held)}
        return {
            **return_statistics(strategy),
            "hit_rate": _hit_rate(strategy[invested]),
            "exposure": float(self.daily["exposure"].mean()),
            "turnover": float(self.daily["turnover"].mean()),
            **{f"buy_and_hold_{name}": value for name, value in benchmark.items()},
        }


def market_returns(table: pd.DataFrame) -> pd.DataFrame | None:
    """Return what each row's symbol did overnight and during the day.

    Parameters
    ----------
    table : DataFrame
        A snapshot's table.

    Returns
    -------
    DataFrame or None
        `date`, `symbol`, `overnight` (open over the close before, less 1) and `intraday`
        (close over open, less 1), float64, row by row; None where the feature set has no
        `overnight_return` and `intraday_return`.
    """
    if not {"overnight_return", "intraday_return"} <= set(table.columns):
        return None
    return pd.DataFrame(
        {
            "date": table["date"],
            "symbol": table["symbol"],
            "overnight": table["overnight_return"].astype(np.float64),
            "intraday": table["intraday_return"].astype(np.float64),
        }
    )


def forward_returns(table: pd.DataFrame, horizon: int) -> Floats:
    """Return what each row's close became `horizon` trading days later, less 1.

    The return whose sign the label `direction` is, chained from the nights and days between:
    the snapshot keeps no prices. Of single precision, so a close that did not move may show
    as a return of some 1e-8.

    Parameters
    ----------
    table : DataFrame
        A snapshot's table.
    horizon : int
        Trading days ahead, counted in the symbol's own rows; at least 1.

    Returns
    -------
    ndarray of float64, shape (n_rows,)
        NaN in each symbol's last `horizon` rows, and everywhere where the feature set lacks
        the two returns.

    Raises
    ------
    ValueError
        When a symbol's dates do not ascend, or the horizon is below one day.

    Examples
    --------
    10 % overnight and nothing during the day, then nothing and 20 %:

    >>> table = pd.DataFrame({"date": pd.date_range("2024-01-01", periods=3), "symbol": "A"})
    >>> table["overnight_return"], table["intraday_return"] = [0.5, 0.1, 0.0], [0.5, 0.0, 0.2]
    >>> forward_returns(table, horizon=1).round(9).tolist()
    [0.1, 0.2, nan]
    >>> forward_returns(table, horizon=2).round(9).tolist()
    [0.32, nan, nan]
    """
    symbol = _checked_symbols(table, horizon)
    market = market_returns(table)
    if market is None:
        return np.full(len(table), np.nan)
    day = ((1 + market["overnight"]) * (1 + market["intraday"])).to_numpy()
    growth = np.ones(len(table))
    for ahead in range(1, horizon + 1):
        growth *= _lagged(day, symbol, -ahead, otherwise=np.nan)
    return growth - 1


def positions(predictions: pd.DataFrame, style: Style, horizon: int) -> Floats:
    """Return the position each row's forecast leads to, decided at the close of its date.

    A forecast above its threshold says 1; any other says 0 (`long_flat`) or -1
    (`long_short`). It speaks of `horizon` trading days, so it is followed that long, with one
    part in `horizon` of the capital: the position is the mean of the symbol's last `horizon`
    signals, and those before the first count as 0.

    Parameters
    ----------
    predictions : DataFrame
        A table of predictions: `date`, `symbol`, `probability`, `threshold`; each symbol's
        rows in order of date.
    style : {'long_flat', 'long_short'}
        What to do where no rise is forecast.
    horizon : int
        Trading days ahead, as in the label; at least 1.

    Returns
    -------
    ndarray of float64, shape (n_rows,)
        Fractions of the symbol's share of the capital, from -1 to 1.

    Raises
    ------
    ValueError
        On an unknown style, a missing forecast, a horizon below one day, or dates that do not
        ascend.

    References
    ----------
    N. Jegadeesh and S. Titman, "Returns to buying winners and selling losers", Journal of
    Finance 48(1) (1993), on overlapping portfolios.

    Examples
    --------
    >>> days = pd.date_range("2024-01-01", periods=4)
    >>> predictions = pd.DataFrame({"date": days, "symbol": "A", "threshold": 0.5})
    >>> predictions["probability"] = [0.6, 0.7, 0.4, 0.5]
    >>> positions(predictions, "long_flat", horizon=2).tolist()
    [0.5, 1.0, 0.5, 0.0]
    >>> positions(predictions, "long_short", horizon=2).tolist()
    [0.5, 1.0, 0.0, -1.0]
    """
    symbol = _checked_symbols(predictions, horizon)
    return _mean_of_last(_signals(predictions, style), symbol, horizon)


def run_backtest(
    predictions: pd.DataFrame,
    table: pd.DataFrame,
    *,
    horizon: int,
    style: Style = "long_flat",
    cost_bps: float = 5.0,
) -> Backtest:
    """Trade forecasts at the next open.

    What is decided at the close of one of a symbol's rows is traded at the open of its next
    one. On day d, with p the position decided at the close before d, and q the one held until
    the open of d, the symbol earns

        (1 + q * overnight) * (1 + p * intraday) - 1 - cost * |p - q|.

    A symbol is traded from the day after its first forecast to the day after its last one.
    The capital is dealt equally, every day anew, to the symbols traded and quoted on that day.

    Parameters
    ----------
    predictions : DataFrame
        A table of predictions: `date`, `symbol`, `probability`, `threshold`. A row of a symbol
        without a forecast, between others, adds no signal.
    table : DataFrame
        The snapshot's table they were made from, the rows whose label is not known included.
    horizon : int
        Trading days ahead, as in the label: how long a signal is followed.
    style : {'long_flat', 'long_short'}
        As in `positions`.
    cost_bps : float
        Cost of a trade in basis points of what is traded, 0 or more.

    Returns
    -------
    Backtest
        Buy and hold is long in every symbol traded, from its first day to its last, by the same
        accounting and at the same cost.

    Raises
    ------
    ValueError
        When the table lacks the returns, a forecast is missing, doubled or not in the table,
        no day follows the first of them, or a parameter is out of range.

    Notes
    -----
    What this leaves out: dealing the capital anew costs nothing, nor does keeping a position at
    its fraction of the capital from one open to the next; neither borrowing shares nor the
    last day's positions cost anything; idle capital earns nothing.
    """
    market = market_returns(table)
    if market is None:
        raise ValueError(
            "The table has no overnight_return and intraday_return, and without them there is "
            "nothing to trade at. Use a feature set that has both, such as 'core'."
        )
    if not 0 <= cost_bps < math.inf:
        raise ValueError(f"cost_bps must be 0 basis points or more, not {cost_bps}.")
    symbol = _checked_symbols(table, horizon)
    signals = _signals_by_row(predictions, table, style)
    traded = _traded(~np.isnan(signals), symbol)
    if not traded.any():
        raise ValueError(
            "There is no forecast followed by another day of its symbol: nothing was ever traded. "
            "Give the whole table, with the rows after the last forecast."
        )
    decided = _mean_of_last(np.nan_to_num(signals, nan=0.0), symbol, horizon)
    always = traded.astype(np.float64)
    held = {
        "strategy": (_lagged(decided, symbol, 2), _lagged(decided, symbol, 1)),
        "buy_and_hold": (_lagged(always, symbol, 1), always),
    }
    daily = {
        name: _account(market[traded], before[traded], after[traded])
        for name, (before, after) in held.items()
    }
    cost = cost_bps / 10_000
    net = {name: days["gross"] - cost * days["turnover"] for name, days in daily.items()}
    return Backtest(
        daily=daily["strategy"].assign(**net)[
            ["strategy", "gross", "buy_and_hold", "exposure", "turnover"]
        ],
        positions=market.loc[traded, ["date", "symbol"]]
        .assign(position=held["strategy"][1][traded])
        .reset_index(drop=True),
        style=style,
        cost_bps=cost_bps,
    )


def backtest_intervals(
    backtest: Backtest,
    *,
    horizon: int,
    confidence: float = 0.95,
    n_resamples: int = 1000,
    random_state: int = 0,
) -> dict[str, Interval]:
    """Say how far the Sharpe ratios would move on other days, by drawing blocks of dates.

    Parameters
    ----------
    backtest : Backtest
        Of one strategy.
    horizon : int
        Trading days ahead, as in the label; blocks are twice as long, ten days at least.
    confidence, n_resamples, random_state
        As in `DateBootstrap`.

    Returns
    -------
    dict of str to Interval
        `sharpe`: the annual Sharpe ratio, and `sharpe_gain`: the same less that of buy and
        hold on the same days. Ends are NaN where there are too few days, or no trades.
    """
    bootstrap = DateBootstrap(
        backtest.daily.index.to_numpy(),
        block_length=block_length(horizon),
        n_resamples=n_resamples,
        random_state=random_state,
    )
    sharpe, benchmark = (
        _weighted_sharpe(backtest.daily[name].to_numpy()) for name in ("strategy", "buy_and_hold")
    )
    return {
        "sharpe": bootstrap.interval(sharpe, confidence=confidence),
        "sharpe_gain": bootstrap.interval(
            lambda weights: sharpe(weights) - benchmark(weights), confidence=confidence
        ),
    }


def equity(returns: ArrayLike) -> Floats:
    """Return what a capital of 1 became by the end of each day; what is lost stays lost."""
    growth: Floats = np.maximum(1 + np.asarray(returns, dtype=np.float64), 0.0)
    return np.cumprod(growth, dtype=np.float64)


def drawdown(equity: ArrayLike) -> Floats:
    """Return how far below its highest level so far a capital that began as 1 stands.

    Parameters
    ----------
    equity : array-like of float, shape (n_days,)
        As `equity` returns it.

    Returns
    -------
    ndarray of float64, shape (n_days,)
        0 at a new high, -0.25 a quarter below the last one.

    References
    ----------
    M. Magdon-Ismail and A. F. Atiya, "Maximum drawdown", Risk 17(10) (2004).

    Examples
    --------
    >>> drawdown([0.9, 1.2, 0.6, 1.2]).round(9).tolist()
    [-0.1, 0.0, -0.5, 0.0]
    """
    level = np.asarray(equity, dtype=np.float64)
    return level / np.maximum(np.maximum.accumulate(level), 1.0) - 1


def return_statistics(returns: ArrayLike) -> dict[str, float]:
    """Sum daily returns up.

    Parameters
    ----------
    returns : array-like of float, shape (n_days,)
        One return per trading day, at least one; 252 make a year.

    Returns
    -------
    dict of str to float
        - `sharpe`: mean over standard deviation (ddof=1), times sqrt(252); no riskless rate.
        - `sortino`: mean over the root mean square of the losses, gains counted as 0, times
          sqrt(252); the target is 0.
        - `max_drawdown`: the lowest `drawdown`, 0 or less.
        - `total_return`: the last `equity` less 1.
        - `annual_return`: the constant return a year that makes the same of the capital.
        - `annual_volatility`: standard deviation (ddof=1), times sqrt(252).

        NaN where a statistic is undefined: ratios and volatility of a single day, Sharpe ratio
        of equal returns, Sortino ratio without a loss.

    Raises
    ------
    ValueError
        Without returns, or where one is missing or infinite.

    References
    ----------
    W. F. Sharpe, "The Sharpe ratio", Journal of Portfolio Management 21(1) (1994). F. A. Sortino
    and L. N. Price, "Performance measurement in a downside risk framework", Journal of
    Investing 3(3) (1994). C. R. Bacon, *Practical Portfolio Performance Measurement and
    Attribution*, 2nd ed., Wiley 2008, on annual figures.
    """
    days = np.asarray(returns, dtype=np.float64)
    if not len(days):
        raise ValueError("There are no returns to sum up: at least one day is needed.")
    levels = equity(days)
    several = len(days) > 1
    losses = math.sqrt(np.mean(np.minimum(days, 0.0) ** 2))
    return {
        "sharpe": annualise(sharpe_ratio(days), _DAYS_PER_YEAR),
        "sortino": annualise(float(days.mean()) / losses, _DAYS_PER_YEAR)
        if several and losses > 0
        else math.nan,
        "max_drawdown": float(drawdown(levels).min()),
        "total_return": float(levels[-1] - 1),
        "annual_return": float(levels[-1] ** (_DAYS_PER_YEAR / len(days)) - 1),
        "annual_volatility": float(days.std(ddof=1) * math.sqrt(_DAYS_PER_YEAR))
        if several
        else math.nan,
    }


def _hit_rate(returns: "pd.Series[float]") -> float:
    return float((returns > 0).mean()) if len(returns) else math.nan


def _signals(predictions: pd.DataFrame, style: Style) -> Floats:
    """Return 1 where a rise is forecast, and what the style says elsewhere."""
    if style not in get_args(Style):
        raise ValueError(f"Unknown style {style!r}; choose one of {get_args(Style)}.")
    probability, threshold = predictions["probability"], predictions["threshold"]
    unknown = (probability.isna() | threshold.isna()).to_numpy()
    if unknown.any():
        row = int(np.argmax(unknown))
        raise ValueError(
            f"Row {row} ({predictions['symbol'].iloc[row]}, "
            f"{predictions['date'].iloc[row]:%Y-%m-%d}) has no forecast or no threshold. Leave "
            "such rows out."
        )
    return np.where(probability > threshold, 1.0, _OTHERWISE[style])


def _signals_by_row(predictions: pd.DataFrame, table: pd.DataFrame, style: Style) -> Floats:
    """Return the signal of each row of the table; NaN where there is no forecast."""
    signals = predictions[["date", "symbol"]].assign(signal=_signals(predictions, style))
    if signals.duplicated(["date", "symbol"]).any():
        raise ValueError(
            "The predictions hold a date and symbol more than once. Give each forecast once: of "
            "a walk forward, each fold's own test window."
        )
    placed = table[["date", "symbol"]].merge(signals, how="left", on=["date", "symbol"])["signal"]
    strange = len(signals) - int(placed.notna().sum())
    if strange:
        raise ValueError(
            f"{strange} of {len(signals)} predictions are of a date and symbol that the table does "
            "not have. Give the table of the snapshot they were made from."
        )
    return placed.to_numpy(np.float64)


def _checked_symbols(table: pd.DataFrame, horizon: int) -> NDArray[np.intp]:
    """Return each row's symbol as a number, after making sure that "rows earlier" means days."""
    if horizon < 1:
        raise ValueError(f"horizon must be 1 trading day or more, not {horizon}.")
    symbol = np.asarray(pd.factorize(table["symbol"])[0], dtype=np.intp)
    steps = table["date"].groupby(symbol).diff()
    backwards = (steps <= pd.Timedelta(0)).to_numpy()
    if backwards.any():
        row = int(np.argmax(backwards))
        raise ValueError(
            f"Row {row} ({table['symbol'].iloc[row]}, {table['date'].iloc[row]:%Y-%m-%d}) is not "
            "after its symbol's row before. Sort by symbol, then date, one row each."
        )
    return symbol


def _lagged(
    values: Floats, symbol: NDArray[np.intp], rows: int, *, otherwise: float = 0.0
) -> Floats:
    """Return the value some rows of the same symbol earlier (later, where rows < 0)."""
    lagged = pd.Series(values).groupby(symbol).shift(rows, fill_value=otherwise)
    return np.asarray(lagged, dtype=np.float64)


def _mean_of_last(signals: Floats, symbol: NDArray[np.intp], horizon: int) -> Floats:
    # Signals are whole numbers, so that sums and their differences are exact.
    total = np.asarray(pd.Series(signals).groupby(symbol).cumsum(), dtype=np.float64)
    return (total - _lagged(total, symbol, horizon)) / horizon


def _traded(forecast: NDArray[np.bool_], symbol: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Mark the rows from the one after a symbol's first forecast to the one after its last."""
    by_symbol = pd.Series(forecast.astype(np.float64)).groupby(symbol)
    so_far = np.asarray(by_symbol.cumsum(), dtype=np.float64)
    begun = _lagged(so_far, symbol, 1) > 0
    to_come = np.asarray(by_symbol.transform("sum")) > _lagged(so_far, symbol, 2)
    return np.logical_and(begun, to_come)


def _account(market: pd.DataFrame, before: Floats, after: Floats) -> pd.DataFrame:
    """Return each day's gross return, exposure and turnover, each symbol counting the same."""
    earned = (1 + before * market["overnight"]) * (1 + after * market["intraday"]) - 1
    rows = pd.DataFrame(
        {"gross": earned, "exposure": np.abs(after), "turnover": np.abs(after - before)}
    )
    return rows.groupby(market["date"]).mean()


def _weighted_sharpe(returns: Floats) -> Statistic:
    """Return the annual Sharpe ratio under weights that count how often each day was drawn."""

    def statistic(weights: Floats) -> Floats:
        n_days = weights.sum(axis=1)
        mean = weights @ returns / n_days
        squares = weights @ returns**2
        variance = (squares - n_days * mean**2) / np.maximum(n_days - 1, 1)
        sharpe: Floats = np.full(len(weights), np.nan)
        # Equal returns leave a rest of rounding, not zero.
        moving = variance * n_days > 1e-12 * squares
        np.divide(mean, np.sqrt(np.abs(variance)), out=sharpe, where=moving)
        return sharpe * math.sqrt(_DAYS_PER_YEAR)

    return statistic
