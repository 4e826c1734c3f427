"""What a judgement leaves with its run: metrics, tags, figures, results and the report."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from steps.command import say
from steps.judge import Case, Judgement, JudgeParams, in_lines
from steps.learning.leaks import alarm
from steps.learning.scores import score_classifier
from steps.learning.slices import slice_scores, worst_days
from steps.reporting.evaluation_report import build_evaluation_report
from steps.reporting.figures import save_figures
from steps.reporting.findings import EvaluationFindings
from steps.reporting.page import named_figures, render_page
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.project import read_run
from steps.tracking.settings import redact
from steps.tracking.snapshot_store import load_provenance

REPORT = "report.html"
_REGIME_FEATURE = "volatility_20"


def record_judgement(
    case: Case, judgement: Judgement, params: JudgeParams, logger: MLflowLogger
) -> dict[str, Any]:
    """Leave a judgement with its run, and tell the terminal.

    Parameters
    ----------
    case : Case
    judgement : Judgement
        What came of it.
    params : JudgeParams
    logger : MLflowLogger
        The run it is recorded with.

    Returns
    -------
    dict
        What ``results.json`` holds.
    """
    _log_numbers(judgement, logger)
    results = _results(case, judgement)
    _log_files(case, judgement, results, params, logger)
    for line in in_lines(judgement):
        say(line)
    return results


def _log_numbers(judgement: Judgement, logger: MLflowLogger) -> None:
    intervals = {**judgement.scores, **judgement.ic, **judgement.backtest_intervals}
    statistics = judgement.backtest.statistics() if judgement.backtest else {}
    logger.log_metrics(
        **{name: value for name, value in statistics.items() if name not in intervals},
        **{name: each.value for name, each in intervals.items()},
        **{f"{name}_low": each.low for name, each in intervals.items()},
        **{f"{name}_high": each.high for name, each in intervals.items()},
        **judgement.deflated,
        looks=judgement.looks.count,
    )
    for name, baseline in judgement.baselines.items():
        logger.log_metrics(**{f"{name}/{metric}": value for metric, value in baseline.items()})
    logger.set_tags(
        verdict=judgement.sentence,
        gate="APPROVED" if judgement.gate.approved else "REJECTED",
        gate_failed="; ".join(judgement.gate.failed) or "none",
        leak_alarm=alarm(judgement.suspicions),
    )


def _results(case: Case, judgement: Judgement) -> dict[str, Any]:
    predictions, gate = case.predictions, judgement.gate
    results: dict[str, Any] = {
        "verdict": judgement.sentence,
        "gate": {
            "approved": gate.approved,
            "conditions": [vars(condition) for condition in gate.conditions],
        },
        "leak_alarm": [vars(suspicion) for suspicion in judgement.suspicions],
        "looks": judgement.looks.count,
        "deflated": judgement.deflated,
        "feature_snapshot_id": case.snapshot.snapshot_id,
        **case.lineage,
        "test_window": {
            "first_date": predictions["date"].min(),
            "last_date": predictions["date"].max(),
            "rows": len(predictions),
        },
        "metrics": {name: each.value for name, each in judgement.scores.items()},
        "calls_at_0.5": {
            name: score
            for name, score in score_classifier(
                predictions["direction"], predictions["probability"], threshold=0.5
            ).items()
            if name in ("accuracy", "precision", "recall", "f1")
        },
        "baselines": judgement.baselines,
        "intervals": {
            name: vars(each)
            for name, each in (
                *judgement.scores.items(),
                *judgement.ic.items(),
                *judgement.backtest_intervals.items(),
            )
        },
    }
    if judgement.backtest:
        results["backtest"] = {
            "style": judgement.backtest.style,
            "cost_bps": judgement.backtest.cost_bps,
            **judgement.backtest.statistics(),
        }
    if case.folds is not None:
        results["folds"] = case.folds.to_dict("records")
    return results


def _log_files(
    case: Case,
    judgement: Judgement,
    results: Mapping[str, Any],
    params: JudgeParams,
    logger: MLflowLogger,
) -> None:
    predictions = case.predictions
    page = build_evaluation_report(_findings(case, judgement, params, logger))
    with tempfile.TemporaryDirectory(prefix="candlewick-") as folder:
        save_figures(named_figures(page), Path(folder, "plots"))
        Path(folder, REPORT).write_text(render_page(page), encoding="utf-8")
        predictions.to_parquet(Path(folder, "predictions.parquet"), index=False)
        if judgement.backtest:
            judgement.backtest.daily.reset_index().to_parquet(Path(folder, "backtest.parquet"))
        logger.log_artifacts(folder)
    logger.log_dict_artifact(results, "results.json")


def _findings(
    case: Case, judgement: Judgement, params: JudgeParams, logger: MLflowLogger
) -> EvaluationFindings:
    backtest = judgement.backtest
    features = case.snapshot.features.iloc[case.rows]
    regime = features.get(_REGIME_FEATURE)
    return EvaluationFindings(
        title=case.title,
        sentence=judgement.sentence,
        approved=judgement.gate.approved,
        conditions=judgement.gate.conditions,
        suspicions=judgement.suspicions,
        looks=judgement.looks.count,
        deflated=judgement.deflated,
        scores=judgement.scores,
        baselines=judgement.baselines,
        ic=judgement.ic,
        daily_ic=judgement.daily_ic,
        backtest_statistics=backtest.statistics() if backtest else {},
        backtest_intervals=judgement.backtest_intervals,
        style=params.positions,
        cost_bps=params.cost_bps,
        daily=backtest.daily if backtest else None,
        predictions=case.predictions,
        importance=case.importance,
        contributions=case.contributions,
        feature_values=None if case.contributions is None else features,
        slices=slice_scores(
            case.predictions,
            regime,
            horizon=case.snapshot.horizon,
            confidence=params.confidence,
        ),
        worst_days=worst_days(case.predictions, backtest.daily["strategy"] if backtest else None),
        folds=case.folds,
        windows=case.windows,
        manifest=case.snapshot.manifest,
        provenance=load_provenance(case.stored),
        lineage={
            "feature_snapshot_id": case.snapshot.snapshot_id,
            **case.lineage,
            "featurize_run_id": case.stored.run_id,
            "run_id": logger.run_id,
            "git_commit": logger.git_commit or "not recorded",
        },
        params={**case.params, **params.model_dump(include=set(JudgeParams.model_fields))},
        reproduce=commands(case.again, logger),
    )


def commands(again: Sequence[str], logger: MLflowLogger) -> list[str]:
    """Write the commands that do it again, at the commit this was done at, where one is known.

    Parameters
    ----------
    again : sequence of str
        What `mlflow run` is told, without the project.
    logger : MLflowLogger
        Of the run that was done.
    """
    tags = read_run(logger.client, logger.run_id).tags
    source = redact(tags.get("mlflow.source.git.repoURL", "."))
    if logger.git_commit and source != ".":
        return [f"mlflow run {shlex.quote(source)} -v {logger.git_commit} {told}" for told in again]
    checkout = [f"git checkout {logger.git_commit}"] if logger.git_commit else []
    return [*checkout, *(f"mlflow run . --env-manager local {told}" for told in again)]
