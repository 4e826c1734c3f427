"""The whole recipe finds nothing in noise, and finds what is there."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run

from end_to_end.recipe import Recorded, run_main_here
from steps.market.prices import SAMPLE, load_prices

pytestmark = pytest.mark.slow

PRICES = ["open", "high", "low", "close"]


def permuted(prices: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Put the days of a market into random order, and chain their bars to prices again.

    A day is what happened since the close before: its open, high, low and close as multiples of
    that close, and its volume. All symbols' days go the same way, so what they have in common on
    a day stays. What is lost is the order: tomorrow has nothing to do with today. Within a day
    nothing changes, so every high is still the highest and every low the lowest.
    """
    traded = prices.groupby("date")["symbol"].transform("size")
    prices = prices[traded == prices["symbol"].nunique()]
    n_days = prices["date"].nunique()
    order = np.random.default_rng(seed).permutation(np.arange(1, n_days))
    tables = []
    for symbol, bars in prices.groupby("symbol"):
        days = bars[PRICES].div(bars["close"].shift(), axis="index").iloc[order]
        before = days["close"].cumprod().shift(fill_value=1.0) * bars["close"].iloc[0]
        tables.append(
            days.mul(before, axis="index").assign(
                date=bars["date"].iloc[1:].to_numpy(),
                symbol=symbol,
                volume=bars["volume"].iloc[order],
            )
        )
    return pd.concat(tables, ignore_index=True)


def planted(seed: int, n_symbols: int = 8, n_days: int = 1500) -> pd.DataFrame:
    """Simulate prices of which tomorrow's direction depends on today's volume.

    A day is busy or quiet, by a coin. A busy day has four times the volume, and the return that
    follows it is drawn around +0.3 standard deviations, that after a quiet one around -0.3.
    """
    random = np.random.default_rng(seed)
    dates = pd.bdate_range("2015-01-01", periods=n_days)
    tables = []
    for number in range(n_symbols):
        busy = random.random(n_days) < 0.5
        drift = np.where(np.roll(busy, 1), 0.3, -0.3)
        close = 100 * np.cumprod(1 + 0.01 * (drift + random.normal(size=n_days)))
        opened = close * (1 + 0.003 * random.normal(size=n_days))
        reach = 1 + 0.005 * random.random((2, n_days))
        tables.append(
            pd.DataFrame(
                {
                    "date": dates,
                    "symbol": f"S{number}",
                    "open": opened,
                    "high": np.maximum(opened, close) * reach[0],
                    "low": np.minimum(opened, close) / reach[1],
                    "close": close,
                    "volume": np.where(busy, 4e6, 1e6) * random.uniform(0.9, 1.1, n_days),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def run_recipe(prices: pd.DataFrame, name: str) -> Run:
    """Run all steps on prices, in this folder and process, and return the parent run."""
    prices.to_parquet(f"{name}.parquet", index=False)
    run_main_here(prices=f"{name}.parquet", reuse="none")
    return Recorded(Path.cwd()).steps("main")[-1]


@pytest.mark.usefixtures("database")
def test_permuted_days_are_no_better_than_a_coin() -> None:
    """Of five 95 % intervals at most one may miss 0.5.

    If each is right in 95 of 100 cases, two or more of five miss in 2.3 of 100. The seeds are the
    first five there are; none was looked for. (Of the first sixty, three miss.)
    """
    prices = load_prices(SAMPLE).table
    prices = prices[prices["symbol"].isin(["AAPL", "IBM", "MSFT"])]  # all 13 years
    missed = []
    for seed in range(5):
        run = run_recipe(permuted(prices, seed), f"permuted-{seed}")
        found = run.data.metrics
        assert found["auc_roc_low"] < found["auc_roc"] < found["auc_roc_high"]
        assert found["auc_roc_high"] - found["auc_roc_low"] < 0.1, "too wide to miss anything"
        if not found["auc_roc_low"] <= 0.5 <= found["auc_roc_high"]:
            missed.append((seed, run.data.tags["verdict"]))
    assert len(missed) <= 1, missed


@pytest.mark.usefixtures("database")
def test_a_planted_signal_is_found() -> None:
    """What is planted lies at an AUC of 0.62 at best, far outside of what chance can do."""
    run = run_recipe(planted(seed=0), "planted")
    assert run.data.metrics["auc_roc_low"] > 0.5
    verdict = run.data.tags["verdict"]
    assert verdict.startswith("Better than the base rate")
    assert "Suspiciously good" in verdict  # on real prices it would be
    (train,) = Recorded(Path.cwd()).steps("train")
    path = Recorded(Path.cwd()).artifacts(train) / "feature_importance.json"
    assert pd.read_json(path, typ="series").idxmax() == "volume_ratio_20"
