"""How good the forecasts are: scores, curves, calibration, information coefficient."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from steps.reporting.curves import ic_figure
from steps.reporting.figures import (
    calibration_figure,
    confusion_matrix_figure,
    precision_recall_figure,
    roc_curve_figure,
)
from steps.reporting.findings import EvaluationFindings
from steps.reporting.page import Block, Facts, Picture, Section, Table, Text, write_value
from steps.reporting.sections.wording import SCORES, ends, in_words, interval_name


def scores_section(findings: EvaluationFindings) -> Section:
    """Set the scores, with their intervals, beside the baselines', and count the looks."""
    interval = interval_name(findings.scores)
    baselines = {in_words(name, capital=False): each for name, each in findings.baselines.items()}
    rows = []
    for score, estimate in findings.scores.items():
        name, spec, meaning = SCORES.get(score, (in_words(score), ".4f", ""))
        rows.append(
            {
                "score": name,
                "model": write_value(estimate.value, spec),
                interval: ends(estimate, spec),
                **{
                    baseline: write_value(scores.get(score), spec)
                    for baseline, scores in baselines.items()
                },
                "what it says": meaning,
            }
        )
    numbers = dict.fromkeys(["model", interval, *baselines], "")
    return Section(
        "Headline numbers",
        [Table(rows, "Scores on the test window", numbers), *_looks(findings)],
        "Base rate always forecasts the share of ups among the training rows; persistence says "
        "the coming days go where the last ones went. Intervals come from redrawing whole blocks "
        "of dates, for neighbouring days and symbols of one day are no independent news.",
    )


_DEFLATED: Final = {
    "auc_roc_low_deflated": "AUC interval for the best of all looks, lower end",
    "auc_roc_high_deflated": "AUC interval for the best of all looks, upper end",
    "deflated_sharpe_ratio": "Deflated Sharpe ratio (chance that the true one is above what "
    "luck makes the best of all looks)",
}


def _looks(findings: EvaluationFindings) -> list[Block]:
    if findings.looks <= 1:
        return [Text("This is the experiment's first look at this test window.")]
    told = Text(
        f"This is look number {findings.looks:,} of this experiment at this test window. The best "
        "of many tries looks good by luck; the figures below allow for that."
    )
    facts = {
        _DEFLATED.get(name, in_words(name)): write_value(value, ".3f")
        for name, value in findings.deflated.items()
    }
    return [told, Facts(facts)] if facts else [told]


def curves_section(findings: EvaluationFindings) -> Section:
    """Draw the ROC curve, and precision against recall."""
    came, _ = _came_and_said(findings.predictions)
    if not len(came):
        return Section("Curves", [Text("There are no forecasts to draw.")])
    # Rows of several folds are ranked within their fold, as the AUC does it.
    ranked_by = findings.predictions.get("score", findings.predictions["probability"])
    return Section(
        "Curves",
        [
            Picture(
                roc_curve_figure(came, ranked_by, findings.scores.get("auc_roc")),
                name="roc_curve",
            ),
            Picture(precision_recall_figure(came, ranked_by), name="precision_recall"),
        ],
        "Both walk from the most confident forecast of a rise to the least. A model that knows "
        "nothing follows the dashed lines.",
    )


def calibration_section(findings: EvaluationFindings) -> Section:
    """Draw what was said against what came, and count the calls."""
    came, said = _came_and_said(findings.predictions)
    if not len(came):
        return Section("Calibration and calls", [Text("There are no forecasts to draw.")])
    return Section(
        "Calibration and calls",
        [
            Picture(calibration_figure(came, said), name="calibration"),
            Picture(
                confusion_matrix_figure(came, findings.predictions["predicted"].to_numpy()),
                name="confusion_matrix",
            ),
        ],
        "First what was said against what came, in ten groups of rows; then the calls, up where "
        "the forecast lies above the threshold chosen on validation.",
    )


def _came_and_said(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return (
        predictions["direction"].to_numpy(np.int8),
        predictions["probability"].to_numpy(np.float64),
    )


_IC: Final = {
    "ic": ("IC", "mean correlation of forecast and return across symbols, date by date"),
    "icir": ("ICIR", "mean IC over its standard deviation from date to date"),
    "rank_ic": ("Rank IC", "the same with ranks, which outliers do not move"),
    "rank_icir": ("Rank ICIR", "mean rank IC over its standard deviation"),
}


def information_coefficient_section(findings: EvaluationFindings) -> Section:
    """Show how forecasts and returns went together across symbols."""
    blocks: list[Block] = []
    if findings.ic:
        interval = interval_name(findings.ic)
        rows = [
            {
                "measure": _IC.get(name, (in_words(name), ""))[0],
                "value": write_value(estimate.value, "+.4f"),
                interval: ends(estimate, "+.4f"),
                "what it says": _IC.get(name, ("", ""))[1],
            }
            for name, estimate in findings.ic.items()
        ]
        numbers = {"value": "", interval: ""}
        blocks.append(Table(rows, "Across symbols, date by date", numbers))
    else:
        blocks.append(
            Text(
                "There is none: it compares symbols with one another, and takes at least three of "
                "them with a known return on each of at least two dates."
            )
        )
    if findings.daily_ic is not None and len(findings.daily_ic) > 1:
        blocks.append(Picture(ic_figure(findings.daily_ic), wide=True))
    return Section(
        "Information coefficient",
        blocks,
        "Whether the symbols given more on a date did better than the others on that date. "
        "Published daily models that survive scrutiny reach some 0.05.",
    )
