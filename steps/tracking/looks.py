"""How often an experiment has looked at a test window, and what it saw there.

Whoever tries often enough finds a model that does well on any window by luck alone. So every run
that scores forecasts leaves a mark of what it scored, and the next one counts the marks.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from mlflow.entities import Run, ViewType

from steps.tracking.mlflow_logger import MLflowLogger

_WINDOW_TAG: Final = "test_window"
_FORECASTS_TAG: Final = "forecasts_sha256"
_SHARPE_METRIC: Final = "sharpe_per_day"
_RUNS_PER_REQUEST = 1000


@dataclass(frozen=True)
class Looks:
    """The tries so far, the present one included.

    Attributes
    ----------
    count : int
        Different sets of forecasts that were scored on dates of this window. Scoring the same
        forecasts again is no new look.
    sharpes : tuple of float
        Sharpe ratio per trading day of each different strategy that was tried on them, NaN where
        there was no backtest; this one's last. Trading the same forecasts in another way is a
        try of its own.
    """

    count: int
    sharpes: tuple[float, ...]


def record_look(logger: MLflowLogger, predictions: pd.DataFrame, sharpe: float) -> Looks:
    """Mark this run as a look at its test window, and count all looks there were.

    Every earlier run of the experiment counts whose test dates overlap with these, also those
    that were deleted or failed afterwards: what was seen was seen.

    Parameters
    ----------
    logger : MLflowLogger
        The run that scores.
    predictions : DataFrame
        Columns `date`, `symbol`, `probability`.
    sharpe : float
        The backtest's Sharpe ratio per trading day; NaN where there is none.
    """
    first, last = (f"{date:%Y-%m-%d}" for date in predictions["date"].agg(["min", "max"]))
    digest = _hash_forecasts(predictions)
    logger.set_tags(**{_WINDOW_TAG: f"{first} to {last}", _FORECASTS_TAG: digest})
    if not np.isnan(sharpe):
        logger.log_metrics(**{_SHARPE_METRIC: sharpe})
    forecasts = {digest}
    tries: dict[tuple[str, str], float] = {}
    for run in _marked_runs(logger):
        began, _, ended = run.data.tags[_WINDOW_TAG].partition(" to ")
        if run.info.run_id != logger.run_id and began <= last and first <= ended:
            seen = run.data.metrics.get(_SHARPE_METRIC, np.nan)
            forecasts.add(run.data.tags[_FORECASTS_TAG])
            tries[run.data.tags[_FORECASTS_TAG], repr(seen)] = seen
    tries.pop((digest, repr(sharpe)), None)
    return Looks(len(forecasts), (*tries.values(), sharpe))


def _marked_runs(logger: MLflowLogger) -> list[Run]:
    found: list[Run] = []
    token: Any = None
    while token != "":
        page = logger.client.search_runs(
            [logger.experiment_id],
            f"tags.{_FORECASTS_TAG} LIKE '%'",
            run_view_type=ViewType.ALL,
            max_results=_RUNS_PER_REQUEST,
            page_token=token,
        )
        found.extend(page)
        token = page.token or ""
    return found


def _hash_forecasts(predictions: pd.DataFrame) -> str:
    days = predictions["date"].to_numpy("datetime64[D]").astype("<i8")
    digest = hashlib.sha256(days.tobytes())
    digest.update("\0".join(predictions["symbol"]).encode())
    digest.update(predictions["probability"].to_numpy("<f8").tobytes())
    return digest.hexdigest()
