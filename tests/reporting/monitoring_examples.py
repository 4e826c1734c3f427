"""Findings of a watch that never was: random, and the same every time."""

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from evaluation_findings import Estimate, symbols_of

from steps.reporting.monitoring_findings import MonitoringFindings

FEATURES = [
    *("return_1d", "return_2d", "return_5d", "return_10d", "return_20d", "overnight_return"),
    *("intraday_return", "rsi_14", "macd_histogram", "bollinger_position", "stochastic_k_14"),
    *("adx_14", "di_spread_14", "atr_14_ratio", "high_low_range", "close_location"),
    *("volatility_20", "volatility_ratio_5_20", "volume_ratio_20", "obv_slope_20"),
    *("money_flow_14", "day_of_week", "month", "forecast"),
]


@dataclass(frozen=True)
class Oddity:
    kind: str
    symbol: str
    text: str


def make_rows(count: int, features: list[str] = FEATURES, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    rows = pd.DataFrame(random.normal(0, 0.02, (count, len(features))), columns=features)
    for name, values in (("day_of_week", np.arange(5)), ("month", np.arange(1, 13))):
        if name in rows:
            rows[name] = values[np.arange(count) % len(values)].astype(float)
    return rows


def make_drift(features: list[str] = FEATURES) -> pd.DataFrame:
    """Make a table in which the third and the last feature drifted, the third further."""
    psi = np.linspace(0.001, 0.09, len(features))
    table = pd.DataFrame(
        {
            "feature": features,
            "psi": psi,
            "ks": psi / 2,
            "p_value": 0.4,
            "p_adjusted": 1.0,
            "drifted": False,
        }
    )
    for place, moved in ((2, 0.61), (len(features) - 1, 0.31)):
        columns = ["psi", "ks", "p_value", "p_adjusted", "drifted"]
        table.loc[place, columns] = [moved, moved / 2, 0.00002, 0.0004, True]
    return table


def make_quality(symbols: list[str]) -> pd.DataFrame:
    """Make a table in which each symbol has one more missing day than the one before it."""
    return pd.DataFrame(
        {
            "symbol": symbols,
            "first_date": pd.Timestamp("2012-12-14"),
            "last_date": pd.Timestamp("2013-03-01"),
            "rows": 52,
            "missing_days": range(len(symbols)),
            "zero_volume_days": 0,
            "longest_unchanged": 1,
            "largest_move": 0.123,
            "age": 0,
        }
    )


def make_performance() -> pd.DataFrame:
    return pd.DataFrame(
        [
            ("auc_roc", 0.4871, 0.401, 0.572, 0.5126, 0.484, 0.544),
            ("log_loss", 0.6951, 0.688, 0.702, 0.6932, 0.6904, 0.6958),
            ("brier_score", 0.2512, 0.2476, 0.2549, 0.25, 0.2486, 0.2513),
            ("accuracy", 0.4921, 0.43, 0.55, 0.5102, 0.4848, 0.5346),
        ],
        columns=[
            *("metric", "live", "low", "high"),
            *("evaluation", "evaluation_low", "evaluation_high"),
        ],
    )


def make_watch(n_symbols: int = 5, **changes: Any) -> MonitoringFindings:
    """Make findings; by default some in which two features drifted."""
    symbols = symbols_of(n_symbols)
    new = make_rows(260, seed=1)
    new["return_5d"] = 1.8 * new["return_5d"] + 0.02
    made: dict[str, Any] = {
        "title": "stock_direction version 3 on prices.csv",
        "status": "drift",
        "sentence": "2 of 24 drifted, return_5d most (PSI 0.610); AUC 0.487, 95 % interval 0.401 "
        "to 0.572, was 0.513.",
        "reasons": ["return_5d drifted: PSI 0.610, p <0.001", "forecast drifted: PSI 0.310"],
        "new_dates": (date(2012, 12, 14), date(2013, 3, 1)),
        "new_rows": 260,
        "reference_dates": (date(2000, 4, 17), date(2008, 8, 18)),
        "reference_rows": 7262,
        "quality_symbols": make_quality(symbols),
        "oddities": [
            Oddity("large move", symbols[0], f"{symbols[0]} falls 62 % on 2013-01-24"),
            Oddity("zero volume", symbols[-1], f"{symbols[-1]} has no volume on 9 of 52 days"),
        ],
        "drift": make_drift(),
        "psi_bound": 0.25,
        "alpha": 0.05,
        "reference": make_rows(7262),
        "new": new,
        "live": Estimate(0.4871, 0.401, 0.572),
        "then": Estimate(0.5126, 0.484, 0.544),
        "performance": make_performance(),
        "performance_note": "255 labelled rows of 51 new dates.",
        "by_month": pd.DataFrame(
            {
                "month": ["2012-12", "2013-01", "2013-02", "2013-03"],
                "rows": [55, 105, 90, 5],
                "auc_roc": [0.52, 0.46, 0.505, np.nan],
                "log_loss": [0.692, 0.699, 0.6932, 0.71],
                "base_rate": [0.51, 0.47, 0.53, 1.0],
            }
        ),
        "lineage": {
            "model_uri": "models:/stock_direction/3",
            "feature_snapshot_id": "1b85982c788cb12b1a20b2a2d262dd64",
            "git_commit": "cdb8746f" * 5,
        },
        "params": {"prices": "prices.csv", "psi_bound": 0.25, "alpha": 0.05, "n_resamples": 1000},
        "reproduce": [
            "git checkout " + "cdb8746f" * 5,
            "mlflow run . --env-manager local -e monitor -P prices=prices.csv",
        ],
    }
    return MonitoringFindings(**made | changes)
