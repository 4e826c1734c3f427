"""The report of an evaluation: the verdict first, then everything it rests on."""

from __future__ import annotations

import pandas as pd

from steps.reporting.findings import EvaluationFindings
from steps.reporting.page import Page, write_value
from steps.reporting.sections.breakdowns import folds_section, slices_section, worst_days_section
from steps.reporting.sections.forecasts import (
    calibration_section,
    curves_section,
    information_coefficient_section,
    scores_section,
)
from steps.reporting.sections.gate import gate_section
from steps.reporting.sections.model import importance_section
from steps.reporting.sections.origin import data_section, lineage_section, reproduce_section
from steps.reporting.sections.trading import backtest_section


def build_evaluation_report(findings: EvaluationFindings) -> Page:
    """Put the findings of an evaluation in order, as a page.

    Parameters
    ----------
    findings : EvaluationFindings

    Returns
    -------
    Page
        For `steps.reporting.page.render_page`.
    """
    contents = [
        gate_section(findings),
        scores_section(findings),
        curves_section(findings),
        calibration_section(findings),
        information_coefficient_section(findings),
        backtest_section(findings),
        folds_section(findings),
        importance_section(findings),
        slices_section(findings),
        worst_days_section(findings),
        data_section(findings),
        lineage_section(findings),
        reproduce_section(findings),
    ]
    return Page(
        title=findings.title,
        kicker=_kicker(findings.predictions),
        sentence=findings.sentence,
        status="good" if findings.approved else "bad",
        badge="APPROVED" if findings.approved else "REJECTED",
        sections=[section for section in contents if section is not None],
    )


def _kicker(predictions: pd.DataFrame) -> str:
    if predictions.empty:
        return "Candlewick evaluation · no forecasts"
    first, last = (write_value(day) for day in predictions["date"].agg(["min", "max"]))
    symbols = predictions["symbol"].nunique()
    return (
        f"Candlewick evaluation · {len(predictions):,} forecasts of "
        f"{symbols:,} symbol{'s' if symbols != 1 else ''}, {first} to {last}"
    )
