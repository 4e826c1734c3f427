"""Where the forecasts are good and where not: by fold, by slice, on the worst days."""

from __future__ import annotations

import pandas as pd

from steps.reporting.curves import folds_figure, slices_figure
from steps.reporting.findings import EvaluationFindings
from steps.reporting.page import Picture, Section, Text
from steps.reporting.sections.tables import findings_table


def folds_section(findings: EvaluationFindings) -> Section | None:
    """Show each fold of a walk-forward; None where there was none."""
    if findings.folds is None:
        return None
    if findings.folds.empty:
        return Section("Walk-forward folds", [Text("There are no folds.")])
    return Section(
        "Walk-forward folds",
        [
            Picture(folds_figure(findings.folds), wide=True),
            findings_table(findings.folds, "Each fold's test window"),
        ],
        "The model was trained anew before each window, on what was known by then. The numbers "
        "above pool the forecasts of all folds.",
    )


def slices_section(findings: EvaluationFindings) -> Section:
    """Show the scores by symbol, by year and by regime."""
    if findings.slices.empty:
        return Section("Slices", [Text("There are no slices.")])
    return Section(
        "Slices",
        [
            Picture(slices_figure(findings.slices), wide=True),
            findings_table(findings.slices[_slice_first(findings.slices)], "Scores by slice"),
        ],
        "Nothing here is widened for the number of slices: at 95 %, of forty that know nothing one "
        "looks good, and another bad.",
    )


def _slice_first(slices: pd.DataFrame) -> list[str]:
    return ["slice", "kind", *(str(name) for name in slices.columns.drop(["slice", "kind"]))]


def worst_days_section(findings: EvaluationFindings) -> Section:
    """Show the days on which the forecasts were worth least."""
    if findings.worst_days.empty:
        return Section("Worst days", [Text("There are no days to show.")])
    return Section(
        "Worst days",
        [findings_table(findings.worst_days, "Days on which the forecasts were worth least")],
        "By the day's mean log-loss. A model that is sure and wrong on a few days may be "
        "worthless for all the others.",
    )
