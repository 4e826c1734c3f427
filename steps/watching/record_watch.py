"""What a watch over a model leaves with its run: metrics, tags, tables and the page."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from steps.command import say
from steps.learning.bootstrap import Interval
from steps.reporting.monitoring_findings import MonitoringFindings
from steps.reporting.monitoring_report import build_monitoring_report
from steps.reporting.page import render_page
from steps.tracking.mlflow_logger import SNAPSHOT_TAG, MLflowLogger
from steps.watching.drift import part_forecasts
from steps.watching.live_performance import by_month
from steps.watching.watch import Watch
from steps.watching.watched_model import FORECAST, WatchedModel

PAGE = "monitor.html"
_MOST_ODDITIES = 10
# The scores, the weightiest first.
_ORDER = (
    *("auc_roc", "log_loss", "log_loss_gain", "brier_score"),
    *("accuracy", "precision", "recall", "f1"),
)


def record_watch(
    watch: Watch,
    model: WatchedModel,
    logger: MLflowLogger,
    *,
    title: str,
    params: Mapping[str, Any],
    commands: Sequence[str],
) -> None:
    """Leave a watch with its run, and tell the terminal.

    Parameters
    ----------
    watch : Watch
    model : WatchedModel
    logger : MLflowLogger
        The run it is recorded with.
    title : str
        Which model is watched, and on which prices.
    params : mapping
        How it was compared.
    commands : sequence of str
        What does it again.
    """
    lineage = _lineage(model, logger)
    _log_numbers(watch, logger)
    logger.set_tags(
        monitor=watch.status,
        monitor_reasons="; ".join(watch.reasons),
        **{"mlflow.note.content": _as_markdown(watch)},
    )
    page = render_page(
        build_monitoring_report(_findings(watch, model, title, lineage, params, commands))
    )
    with tempfile.TemporaryDirectory(prefix="candlewick-") as folder:
        Path(folder, PAGE).write_text(page, encoding="utf-8")
        watch.drift.table.to_csv(Path(folder, "drift.csv"), index=False)
        model.live_predictions(watch.new).to_parquet(
            Path(folder, "live_predictions.parquet"), index=False
        )
        logger.log_artifacts(folder)
    logger.log_dict_artifact(_results(watch, lineage), "monitor.json")
    for line in in_lines(watch):
        say(line)


def in_lines(watch: Watch) -> list[str]:
    """Put a watch into words for the terminal: verdict, reasons, what is odd about the prices."""
    odd = [" ".join(oddity.text.split()) for oddity in watch.quality.oddities]
    more = len(odd) - _MOST_ODDITIES
    lines = [f"odd: {text}" for text in odd[:_MOST_ODDITIES]]
    if more > 0:
        lines.append(f"odd: and {more:,} more, in {PAGE}")
    return [watch.sentence, *(f"- {reason}" for reason in watch.reasons), *lines]


def _as_markdown(watch: Watch) -> str:
    # Without the blank line, a dash on the line below would make the sentence a heading.
    return "\n".join([watch.sentence, "", *(f"- {reason}" for reason in watch.reasons)])


def _log_numbers(watch: Watch, logger: MLflowLogger) -> None:
    drift = watch.drift.table.set_index("feature")
    features, forecasts = part_forecasts(watch.drift.judged)
    scores = watch.performance.live
    live = {f"live_{name}": scores[name] for name in _ORDER if scores}
    numbers = {
        "drifted_features": features["drifted"].sum(),
        "drifted_forecasts": forecasts["drifted"].sum(min_count=1),
        **{name: each.value for name, each in live.items()},
        **{f"{name}_low": each.low for name, each in live.items()},
        **{f"{name}_high": each.high for name, each in live.items()},
        "stale_symbols": watch.stale_symbols,
        "oddities": len(watch.quality.oddities),
        "new_rows": len(watch.new),
        "new_dates": watch.new["date"].nunique(),
        "labelled_rows": len(watch.performance.labelled),
        **{f"psi/{name}": value for name, value in drift["psi"].items()},
        **{f"p_adjusted/{name}": value for name, value in drift["p_adjusted"].items()},
    }
    logger.log_metrics(**{name: each for name, each in numbers.items() if np.isfinite(each)})


def _lineage(model: WatchedModel, logger: MLflowLogger) -> dict[str, str]:
    return {
        SNAPSHOT_TAG: model.stored.snapshot_id,
        "model_uri": model.version.uri,
        "model_version": model.version.name,
        "train_run_id": model.train_run.run_id,
        "evaluate_run_id": model.evaluation.run_id if model.evaluation else "none",
        "run_id": logger.run_id,
        "git_commit": logger.git_commit or "not recorded",
    }


def _results(watch: Watch, lineage: Mapping[str, str]) -> dict[str, Any]:
    performance = watch.performance
    first_date, last_date = _span(watch.new)
    return {
        "status": watch.status,
        "sentence": watch.sentence,
        "reasons": watch.reasons,
        **lineage,
        "new_window": {
            "first_date": first_date,
            "last_date": last_date,
            "rows": len(watch.new),
        },
        "drift": watch.drift.table.to_dict("records"),
        "live": {name: vars(each) for name, each in performance.live.items()},
        "evaluation": {name: vars(each) for name, each in performance.then.items()},
        "p_value_of_decline": performance.decline.p_value if performance.decline else None,
        "symbols": watch.quality.symbols.to_dict("records"),
        "oddities": [vars(oddity) for oddity in watch.quality.oddities],
    }


def _findings(
    watch: Watch,
    model: WatchedModel,
    title: str,
    lineage: Mapping[str, str],
    params: Mapping[str, Any],
    commands: Sequence[str],
) -> MonitoringFindings:
    performance, compared = watch.performance, watch.drift.table["feature"].tolist()
    return MonitoringFindings(
        title=title,
        status=watch.status,
        sentence=watch.sentence,
        reasons=watch.reasons,
        new_dates=_span(watch.new),
        new_rows=len(watch.new),
        reference_dates=_span(model.learned),
        reference_rows=len(model.learned),
        quality_symbols=watch.quality.symbols,
        oddities=watch.quality.oddities,
        drift=watch.drift.table,
        psi_bound=watch.drift.psi_bound,
        alpha=watch.drift.alpha,
        reference=pd.concat([model.learned, watch.unlearned[[FORECAST]]])[compared],
        new=watch.new[compared],
        live=performance.live.get("auc_roc"),
        then=performance.then.get("auc_roc"),
        performance=_performance_table(performance.live, performance.then),
        performance_note=performance.note,
        by_month=by_month(performance.labelled),
        lineage=lineage,
        params=params,
        reproduce=commands,
    )


def _span(rows: pd.DataFrame) -> tuple[date, date]:
    return rows["date"].min().date(), rows["date"].max().date()


def _performance_table(live: Mapping[str, Interval], then: Mapping[str, Interval]) -> pd.DataFrame:
    """Set live scores beside the evaluation's, in the order of weight."""
    unknown = Interval(np.nan, np.nan, np.nan, np.nan, 0, 0)
    rows = []
    for name in _ORDER if live else ():
        now, before = live[name], then.get(name, unknown)
        rows.append(
            {
                "metric": name,
                "live": now.value,
                "low": now.low,
                "high": now.high,
                "evaluation": before.value,
                "evaluation_low": before.low,
                "evaluation_high": before.high,
            }
        )
    return pd.DataFrame(rows)
