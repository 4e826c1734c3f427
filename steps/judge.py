"""What evaluate and walk_forward share: forecasts in; scores, leak alarm and gate out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from steps.entry_point import StepParams
from steps.learning.backtest import Backtest, backtest_intervals, market_returns, run_backtest
from steps.learning.bootstrap import Interval
from steps.learning.gate import GateVerdict, judge_gate
from steps.learning.information_coefficient import daily_ic, ic_intervals
from steps.learning.intervals import score_intervals, verdict
from steps.learning.leaks import (
    Suspicion,
    alarm,
    auc_too_good,
    feature_too_good,
    features_look_ahead,
    labels_overlap,
)
from steps.learning.predictions import baseline_scores
from steps.learning.sharpe import deflated_sharpe_ratio, sharpe_ratio
from steps.market.snapshot import FeatureSnapshot
from steps.tracking.looks import Looks, record_look
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.snapshot_store import StoredSnapshot, load_provenance

_IC_WORDS = {"ic": "IC", "icir": "ICIR", "rank_ic": "RankIC", "rank_icir": "RankICIR"}


class JudgeParams(StepParams):
    """How forecasts are judged: the intervals, the backtest, the leak alarm and the gate."""

    confidence: float = Field(0.95, gt=0, le=0.99, description="confidence of every interval")
    n_resamples: int = Field(1000, ge=100, le=100_000, description="resamples behind each interval")
    positions: Literal["long_flat", "long_short"] = Field(
        "long_flat", description="backtest: 'long_flat', or 'long_short'"
    )
    cost_bps: float = Field(5.0, ge=0, le=1000, description="backtest: cost of a trade in bp")
    leak_auc: float = Field(0.55, gt=0.5, le=1, description="an AUC above it raises the leak alarm")
    gate_auc_low: float = Field(
        0.5, ge=0, le=1, description="gate: the lower end of the AUC's interval must lie above it"
    )
    gate_log_loss_gain: float = Field(
        0.0, ge=-1, le=1, description="gate: log-loss must be better than the base rate's by more"
    )
    gate_sharpe_gain: float | Literal["none"] = Field(
        0.0, description="gate: the Sharpe ratio must exceed that of buy and hold by more"
    )
    gate_sharpe_low: float | Literal["none"] = Field(
        "none", description="gate: the lower end of the Sharpe ratio's interval must lie above it"
    )


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is to be judged, and what the report tells about it.

    Attributes
    ----------
    title : str
    predictions : DataFrame
        As `make_predictions` returns it, by symbol and date.
    rows : ndarray of intp, shape (len(predictions),)
        Where in the snapshot's table each prediction belongs.
    snapshot : FeatureSnapshot
    stored : StoredSnapshot
    windows : sequence of mapping
        The `split.json` of every training behind the predictions.
    importance : DataFrame
        Columns `feature` and `importance`.
    contributions : DataFrame or None, shape (len(predictions), n_features)
        SHAP values, where the model has them.
    lineage, params : mapping
        Where it all comes from, and how the model was trained.
    again : sequence of str
        What `mlflow run` is told to do it again, or to prove it.
    folds : DataFrame, optional
        One row per fold of a walk-forward.
    """

    title: str
    predictions: pd.DataFrame
    rows: NDArray[np.intp]
    snapshot: FeatureSnapshot
    stored: StoredSnapshot
    windows: Sequence[Mapping[str, Any]]
    importance: pd.DataFrame
    contributions: pd.DataFrame | None
    lineage: Mapping[str, str]
    params: Mapping[str, Any]
    again: Sequence[str]
    folds: pd.DataFrame | None = None


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What came of a case."""

    sentence: str
    gate: GateVerdict
    suspicions: Sequence[Suspicion]
    looks: Looks
    deflated: Mapping[str, float]
    scores: Mapping[str, Interval]
    baselines: Mapping[str, Mapping[str, float]]
    daily_ic: pd.DataFrame
    ic: Mapping[str, Interval]
    backtest: Backtest | None
    backtest_intervals: Mapping[str, Interval]


def judge(case: Case, params: JudgeParams, logger: MLflowLogger) -> Judgement:
    """Judge a case, and mark the run as a look at its test window.

    Parameters
    ----------
    case : Case
    params : JudgeParams
    logger : MLflowLogger
        The run that looks.
    """
    predictions, horizon = case.predictions, case.snapshot.horizon
    resampling: dict[str, Any] = {
        "horizon": horizon,
        "confidence": params.confidence,
        "n_resamples": params.n_resamples,
    }
    scores = score_intervals(predictions, **resampling)
    baselines = baseline_scores(predictions)
    by_date = daily_ic(predictions)
    backtest = _run_backtest(case, params)
    traded = backtest_intervals(backtest, **resampling) if backtest else {}
    returns = backtest.daily["strategy"] if backtest else pd.Series(dtype=float)
    looks = record_look(logger, predictions, sharpe_ratio(returns))
    suspicions = _find_leaks(case, scores["auc_roc"], params)
    return Judgement(
        sentence=verdict(
            {name: each.value for name, each in scores.items()},
            baselines["base_rate"],
            scores["auc_roc"],
            looks=looks.count,
        ),
        gate=judge_gate(
            {**scores, **traded},
            suspicions,
            looks=looks.count,
            tries=len(looks.sharpes),
            auc_low=params.gate_auc_low,
            log_loss_gain=params.gate_log_loss_gain,
            sharpe_gain=_asked(params.gate_sharpe_gain),
            sharpe_low=_asked(params.gate_sharpe_low),
        ),
        suspicions=suspicions,
        looks=looks,
        deflated=_deflate(scores["auc_roc"], returns, looks),
        scores=scores,
        baselines=baselines,
        daily_ic=by_date,
        ic=ic_intervals(by_date, **resampling),
        backtest=backtest,
        backtest_intervals=traded,
    )


def _asked(bound: float | Literal["none"]) -> float | None:
    """Return a bound of the gate, or None where the condition is left out."""
    return None if bound == "none" else bound


def _run_backtest(case: Case, params: JudgeParams) -> Backtest | None:
    """Trade the forecasts, where the snapshot holds the returns that takes."""
    if market_returns(case.snapshot.table) is None:
        return None
    return run_backtest(
        case.predictions,
        case.snapshot.table,
        horizon=case.snapshot.horizon,
        style=params.positions,
        cost_bps=params.cost_bps,
    )


def _find_leaks(case: Case, auc: Interval, params: JudgeParams) -> list[Suspicion]:
    found = auc_too_good(auc, bound=params.leak_auc)
    found += feature_too_good(
        case.snapshot.table,
        case.snapshot.feature_names,
        horizon=case.snapshot.horizon,
        bound=params.leak_auc,
        confidence=params.confidence,
        n_resamples=params.n_resamples,
    )
    for windows in case.windows:
        found += labels_overlap(windows)
    return found + features_look_ahead(load_provenance(case.stored))


def _deflate(auc: Interval, returns: pd.Series[float], looks: Looks) -> dict[str, float]:
    """Return what is left of the headlines when the tries before are counted."""
    deflated: dict[str, float] = {}
    if looks.count > 1:
        widened = auc.widened(looks.count)
        deflated |= {"auc_roc_low_deflated": widened.low, "auc_roc_high_deflated": widened.high}
    if len(looks.sharpes) > 1 and len(returns):
        deflated["deflated_sharpe_ratio"] = deflated_sharpe_ratio(returns, looks.sharpes)
    return deflated


def score_table(
    scores: Mapping[str, Interval], baselines: Mapping[str, Mapping[str, float]]
) -> str:
    """Set the model's scores, with their intervals, beside the baselines', as text."""
    shared = [name for name in scores if name in baselines["base_rate"]]
    confidence = scores[shared[0]].confidence
    table = pd.DataFrame(
        {
            "model": {name: scores[name].value for name in shared},
            f"{100 * confidence:g} % interval": {name: ends(scores[name], 4) for name in shared},
            **{name: {each: found[each] for each in shared} for name, found in baselines.items()},
        }
    )
    return table.to_string(float_format="{:.4f}".format)


def ends(interval: Interval, decimals: int) -> str:
    """Write an interval's ends; a dash where there are none."""
    if np.isnan(interval.low):
        return "-"
    # Adding zero takes the sign off a zero.
    low, high = (round(end, decimals) + 0.0 for end in (interval.low, interval.high))
    return f"{low:.{decimals}f} to {high:.{decimals}f}"


def in_lines(judgement: Judgement) -> list[str]:
    """Put a judgement into words for the terminal: scores, verdict, what else there is, gate."""
    lines = [score_table(judgement.scores, judgement.baselines), judgement.sentence]
    if judgement.ic:
        told = (
            f"{word} {judgement.ic[name].value:.3f} ({ends(judgement.ic[name], 3)})"
            for name, word in _IC_WORDS.items()
        )
        lines.append(f"Per date, across symbols: {', '.join(told)}.")
    if judgement.backtest:
        lines.append(_backtest_line(judgement.backtest, judgement.backtest_intervals["sharpe"]))
    if "deflated_sharpe_ratio" in judgement.deflated:
        lines.append(
            f"Deflated Sharpe ratio {judgement.deflated['deflated_sharpe_ratio']:.3f}: the "
            f"probability that it is more than luck would make the best of "
            f"{len(judgement.looks.sharpes)} tries."
        )
    lines += [alarm([suspicion]) for suspicion in judgement.suspicions]
    return [*lines, judgement.gate.sentence]


def _backtest_line(backtest: Backtest, sharpe: Interval) -> str:
    found = backtest.statistics()
    return (
        f"Backtest ({backtest.style}, next open, {backtest.cost_bps:g} bp): Sharpe ratio "
        f"{sharpe.value:.2f} ({ends(sharpe, 2)}), buy and hold {found['buy_and_hold_sharpe']:.2f}; "
        f"largest drawdown {-100 * found['max_drawdown']:.0f} %."
    )
