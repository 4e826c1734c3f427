"""monitor: whether a model still looks at the world that it learned from."""

from __future__ import annotations

import sys
from datetime import date, timedelta
from typing import Annotated, Literal

import pandas as pd
from pydantic import Field

from steps.entry_point import ParameterError, StepParams, as_typed, log_resolved, public, run_step
from steps.market.price_files import without_secrets
from steps.market.prices import SAMPLE, load_prices
from steps.record import commands
from steps.serving.as_of import AsOf, resolve_as_of
from steps.serving.forecast import MAX_AGE
from steps.tracking.mlflow_logger import SNAPSHOT_TAG, MLflowLogger
from steps.tracking.snapshot_store import snapshot_dataset
from steps.watching.drift import find_drift
from steps.watching.live_performance import judge_performance
from steps.watching.record_watch import record_watch
from steps.watching.watch import Watch
from steps.watching.watched_model import WatchedModel, find_watched_model


class MonitorParams(StepParams):
    """Look for drift, decline and odd prices in what came after a model."""

    model_uri: str = Field(
        "models:/stock_direction@champion", description="a model that takes prices"
    )
    prices: str = Field(SAMPLE, description="'sample', or a file, folder, glob or URL")
    since: date | Literal["auto"] = Field(
        "auto", description="first new date; 'auto': the day after the model's snapshot ends"
    )
    psi: float = Field(0.25, gt=0, description="a feature that drifted has a PSI above it")
    alpha: float = Field(0.05, gt=0, le=0.5, description="and an adjusted p-value below it")
    as_of: AsOf = Field(
        "today", description="the day ages are counted from; 'newest': the prices' newest date"
    )
    max_age: Annotated[int, Field(ge=0)] | Literal["none"] = Field(
        MAX_AGE, description="weekdays after which prices are stale; 'none': never"
    )
    confidence: float = Field(0.95, ge=0.5, le=0.99, description="confidence of every interval")
    n_resamples: int = Field(1000, ge=100, le=100_000, description="resamples behind each interval")


class NothingNewError(ValueError):
    """The prices hold no row that could be called new; the message says why."""


def monitor(params: MonitorParams, logger: MLflowLogger) -> Watch:
    """Hold new prices against those a model learned from, and leave what was found.

    The command leaves with 0 on stable and unknown, 1 on drift, and 2 where it could not look. Its
    run is FINISHED on any verdict; but `mlflow run` marks a run as FAILED whose command leaves with
    anything but 0. There the tag ``monitor`` tells drift from a failure, which has none.
    """
    model = find_watched_model(params.model_uri, logger)
    logger.set_tags(
        model_uri=model.version.uri,
        model_version=model.version.name,
        **{SNAPSHOT_TAG: model.stored.snapshot_id},
    )
    logger.log_dataset(snapshot_dataset(model.stored, model.snapshot.manifest))
    since = _since(params, model)
    log_resolved(logger, since=str(since))
    prices = load_prices(params.prices).table
    as_of = resolve_as_of(params.as_of, prices["date"].max().date())
    new = _new_rows(model, prices, since)
    watch = _watch(params, model, prices, new, since=since, as_of=as_of)
    known = {"model_uri": model.version.uri, "since": since, "as_of": as_of}
    record_watch(
        watch,
        model,
        logger,
        title=f"{model.version.name} on {without_secrets(params.prices)}",
        params={**public(params.model_dump()), **known},
        commands=commands([f"-e monitor {as_typed(params, **known)}"], logger),
    )
    return watch


def _watch(
    params: MonitorParams,
    model: WatchedModel,
    prices: pd.DataFrame,
    new: pd.DataFrame,
    *,
    since: date,
    as_of: date,
) -> Watch:
    unlearned = model.unlearned(before=since)
    live = model.live_predictions(new)
    labelled = live[live["direction"].notna()].astype({"direction": "int8"})
    return Watch(
        new=new,
        unlearned=unlearned,
        drift=find_drift(
            model.learned,
            unlearned,
            new,
            model.snapshot.feature_names,
            alpha=params.alpha,
            psi_bound=params.psi,
        ),
        performance=judge_performance(
            labelled,
            model.evaluated(),
            horizon=model.horizon,
            confidence=params.confidence,
            n_resamples=params.n_resamples,
            alpha=params.alpha,
            tested=model.tested[["date", "symbol"]],
        ),
        quality=model.price_quality(
            prices,
            since,
            as_of=as_of,
            max_age=sys.maxsize if params.max_age == "none" else params.max_age,
        ),
    )


def _since(params: MonitorParams, model: WatchedModel) -> date:
    if params.since == "auto":
        return date.fromisoformat(model.snapshot.manifest["last_date"]) + timedelta(days=1)
    # The validation rows are not new to it: they chose its rounds and its threshold.
    last_seen = max(model.windows[name]["last_date"] for name in ("train", "validation"))
    if params.since <= date.fromisoformat(last_seen):
        raise ParameterError(
            f"since={params.since}, but {model.version.name} was trained and validated on rows up "
            f"to {last_seen}: give a later date"
        )
    return params.since


def _new_rows(model: WatchedModel, prices: pd.DataFrame, since: date) -> pd.DataFrame:
    last_date = prices["date"].max().date()
    if last_date < since:
        raise NothingNewError(
            f"nothing is new: the prices end on {last_date}, and new are those from {since} on "
            "(since); bring newer prices, or give an earlier since"
        )
    new = model.new_rows(prices, since)
    if new.empty:
        raise NothingNewError(
            f"no price from {since} on has the look-back that features need: let the prices begin "
            "earlier"
        )
    return new


def exit_status(watch: Watch) -> int:
    """Return what the command leaves with: 1 on drift, 0 on stable and unknown."""
    return int(watch.status == "drift")


if __name__ == "__main__":
    run_step("monitor", monitor, MonitorParams, exit_status=exit_status, error_status=2)
