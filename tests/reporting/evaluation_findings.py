"""Findings of an evaluation that never was: random, and the same every time."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from steps.reporting.findings import EvaluationFindings

FEATURES = [f"feature_{number:02}" for number in range(20)] + ["momentum_20", "rsi_14", "adx_14"]


@dataclass(frozen=True)
class Estimate:
    value: float
    low: float
    high: float
    confidence: float = 0.95


@dataclass(frozen=True)
class Condition:
    name: str
    passed: bool
    sentence: str


@dataclass(frozen=True)
class Suspicion:
    kind: str
    evidence: str


def symbols_of(count: int) -> list[str]:
    known = ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    return known[:count] + [f"SYM{number:03}" for number in range(count - len(known))]


def make_predictions(n_dates: int, symbols: list[str], seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    dates = pd.bdate_range("2010-10-04", periods=n_dates).astype("datetime64[s]")
    table = pd.MultiIndex.from_product([symbols, dates], names=["symbol", "date"]).to_frame(False)
    proba = random.normal(0.513, 0.02, len(table)).clip(0.4, 0.6)
    came = (random.random(len(table)) < 0.513 + 0.4 * (proba - 0.513)).astype(np.int8)
    return table[["date", "symbol"]].assign(
        label_known_at=table["date"] + pd.Timedelta(days=1),
        direction=came,
        probability=proba,
        predicted=(proba > 0.512).astype(np.int8),
        threshold=0.512,
        base_rate=0.509,
        persistence=random.integers(0, 2, len(table)).astype(float),
        persistence_probability=0.5,
        forward_return=random.normal(0, 0.015, len(table)),
    )


def make_findings(n_dates: int = 580, n_symbols: int = 5, **changes: Any) -> EvaluationFindings:
    """Make findings; by default some that look like those of the bundled prices."""
    symbols = symbols_of(n_symbols)
    predictions = make_predictions(n_dates, symbols)
    random = np.random.default_rng(1)
    dates = pd.DatetimeIndex(predictions["date"].unique(), name="date")
    values = pd.DataFrame(random.normal(size=(len(predictions), len(FEATURES))), columns=FEATURES)
    weights = np.linspace(0.001, 0.03, len(FEATURES)) * random.choice([-1, 1], len(FEATURES))
    made: dict[str, Any] = {
        "title": "xgboost, direction over the next day",
        "sentence": "No better than the base rate: AUC 0.513, 95 % interval 0.483 to 0.543, "
        "log-loss 0.6932 against 0.6931.",
        "approved": False,
        "conditions": [
            Condition("auc_roc", False, "AUC's lower end after 3 looks 0.476 is not above 0.5"),
            Condition("log_loss", False, "log-loss gain -0.0001 is not above 0"),
            Condition("no_leak", True, "the leak alarm is silent"),
        ],
        "suspicions": [],
        "looks": 3,
        "deflated": {
            "auc_roc_low_deflated": 0.476,
            "auc_roc_high_deflated": 0.551,
            "deflated_sharpe_ratio": 0.412,
        },
        "scores": {
            "accuracy": Estimate(0.5102, 0.491, 0.53),
            "precision": Estimate(0.534, 0.5, 0.567),
            "recall": Estimate(0.356, 0.31, 0.4),
            "f1": Estimate(0.4272, 0.39, 0.466),
            "auc_roc": Estimate(0.5126, 0.483, 0.543),
            "log_loss": Estimate(0.6932, 0.6918, 0.6947),
            "brier_score": Estimate(0.25, 0.2493, 0.2508),
            "log_loss_gain": Estimate(-0.0001, -0.0013, 0.0012),
        },
        "baselines": {
            "base_rate": {
                "accuracy": 0.5131,
                "precision": 0.5131,
                "recall": 1.0,
                "f1": 0.6782,
                "auc_roc": 0.5,
                "log_loss": 0.6931,
                "brier_score": 0.25,
            },
            "persistence": {
                "accuracy": 0.5089,
                "precision": 0.5213,
                "recall": 0.5205,
                "f1": 0.5209,
                "auc_roc": 0.5086,
                "log_loss": 0.6948,
                "brier_score": 0.2508,
            },
        },
        "ic": {
            "ic": Estimate(0.0121, -0.018, 0.043),
            "icir": Estimate(0.026, -0.04, 0.092),
            "rank_ic": Estimate(0.0094, -0.021, 0.04),
            "rank_icir": Estimate(0.019, -0.043, 0.082),
        },
        "daily_ic": pd.DataFrame(
            {
                "ic": random.normal(0.012, 0.45, n_dates),
                "rank_ic": random.normal(0.009, 0.45, n_dates),
                "symbols": n_symbols,
            },
            index=dates,
        ),
        "backtest_statistics": {
            "sharpe": 0.61,
            "sortino": 0.87,
            "max_drawdown": -0.183,
            "total_return": 0.214,
            "annual_return": 0.088,
            "annual_volatility": 0.151,
            "hit_rate": 0.522,
            "exposure": 0.41,
            "turnover": 0.31,
            "buy_and_hold_sharpe": 0.98,
            "buy_and_hold_sortino": 1.4,
            "buy_and_hold_max_drawdown": -0.161,
            "buy_and_hold_total_return": 0.481,
            "buy_and_hold_annual_return": 0.186,
            "buy_and_hold_annual_volatility": 0.19,
            "buy_and_hold_hit_rate": 0.54,
        },
        "backtest_intervals": {
            "sharpe": Estimate(0.61, -0.7, 1.9),
            "sharpe_gain": Estimate(-0.37, -1.2, 0.5),
        },
        "cost_bps": 5.0,
        "style": "long_flat",
        "daily": pd.DataFrame(
            {
                "strategy": random.normal(0.0003, 0.009, n_dates),
                "buy_and_hold": random.normal(0.0007, 0.012, n_dates),
            },
            index=dates,
        ),
        "predictions": predictions,
        "importance": pd.DataFrame(
            {"feature": FEATURES[::-1], "importance": np.arange(23, 0, -1) / 276}
        ),
        "contributions": values * weights + random.normal(0, 0.004, values.shape),
        "feature_values": values,
        "slices": make_slices(symbols),
        "worst_days": pd.DataFrame(
            {
                "date": dates[:10],
                "rows": n_symbols,
                "log_loss": np.linspace(0.74, 0.71, 10)[: len(dates[:10])],
                "share_up": 0.2,
                "mean_probability": 0.53,
                "strategy_return": -0.0312,
            }
        ),
        "folds": None,
        "windows": {
            "train": make_window("2000-04-17", "2008-08-18", 7262),
            "validation": make_window("2008-08-26", "2010-09-24", 1873),
            "test": make_window("2010-10-04", "2013-02-28", len(predictions)),
            "purged_rows": 60,
            "embargo": 5,
        },
        "manifest": {
            "feature_count": len(FEATURES),
            "feature_names": FEATURES,
            "feature_types": dict.fromkeys(FEATURES, "float32"),
            "feature_set": "core",
            "version": "1",
            "label": {"name": "direction", "horizon": 1},
            "row_count": 11989,
            "labelled_row_count": 11984,
            "symbols": symbols,
            "first_date": "2000-04-17",
            "last_date": "2013-03-01",
            "values_sha256": "5b1d" * 16,
        },
        "provenance": {
            "prices": "sample",
            "prices_sha256": "c0de" * 16,
            "libraries": {"numpy": "2.4.1", "pandas": "3.1.0"},
            "dropped_symbols": {},
            "made_at": "2026-01-05T09:30:00+00:00",
        },
        "lineage": {
            "feature_snapshot_id": "1b85982c788cb12b1a20b2a2d262dd64",
            "git_commit": "cdb8746f" * 5,
            "train_run_id": "0f3a" * 8,
            "model_uri": "models:/m-" + "9c4e" * 8,
        },
        "params": {
            "model_type": "xgboost",
            "learning_rate": 0.05,
            "max_depth": 4,
            "n_estimators": 300,
            "subsample": 0.8,
            "early_stopping_rounds": 30,
            "random_state": 42,
        },
        "reproduce": [
            "git checkout " + "cdb8746f" * 5,
            "mlflow run . --env-manager local -e train "
            "-P feature_snapshot_id=1b85982c788cb12b1a20b2a2d262dd64",
            "mlflow run . --env-manager local -e evaluate",
        ],
    }
    return EvaluationFindings(**made | changes)


def make_window(first: str, last: str, rows: int) -> dict[str, Any]:
    return {
        "first_date": first,
        "last_date": last,
        "rows": rows,
        "symbols": 5,
        "last_label_known_at": last,
    }


def make_slices(symbols: list[str]) -> pd.DataFrame:
    random = np.random.default_rng(2)
    names = [("symbol", name) for name in symbols]
    names += [("year", year) for year in ("2010", "2011", "2012", "2013")]
    names += [("volatility", regime) for regime in ("calm", "normal", "turbulent")]
    auc = random.normal(0.51, 0.02, len(names))
    return pd.DataFrame(names, columns=["kind", "slice"]).assign(
        rows=580,
        dates=580,
        base_rate=0.513,
        accuracy=auc,
        auc_roc=auc,
        auc_low=auc - 0.04,
        auc_high=auc + 0.04,
        log_loss=0.6932,
    )


def make_folds(count: int = 9) -> pd.DataFrame:
    random = np.random.default_rng(3)
    first = pd.date_range("2003-01-01", periods=count, freq="366D")
    auc = random.normal(0.51, 0.02, count)
    return pd.DataFrame(
        {
            "fold": range(1, count + 1),
            "first_date": first.strftime("%Y-%m-%d"),
            "last_date": (first + pd.Timedelta(days=360)).strftime("%Y-%m-%d"),
            "train_rows": 3000,
            "rows": 1260,
            "accuracy": auc,
            "auc_roc": auc,
            "log_loss": 0.6932,
            "log_loss_gain": -0.0003,
            "auc_low": auc - 0.03,
            "auc_high": auc + 0.03,
        }
    )
