"""Where the forecasts are good and where not: by fold, by slice, on the worst days."""

from __future__ import annotations

from typing import Final

import pandas as pd

from steps.reporting.curves import folds_figure, slices_figure
from steps.reporting.findings import EvaluationFindings
from steps.reporting.page import Picture, Section, Table, Text
from steps.reporting.sections.wording import in_words


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
            _table(findings.folds, "Each fold's test window"),
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
            _table(findings.slices[_slice_first(findings.slices)], "Scores by slice"),
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
        [_table(findings.worst_days, "Days on which the forecasts were worth least")],
        "By the day's mean log-loss. A model that is sure and wrong on a few days may be "
        "worthless for all the others.",
    )


# Column: its heading, and how its numbers are written.
_COLUMNS: Final = {
    "fold": ("fold", "d"),
    "first_date": ("from", ""),
    "last_date": ("to", ""),
    "rows": ("rows", ",d"),
    "train_rows": ("rows trained on", ",d"),
    "dates": ("dates", ",d"),
    "base_rate": ("share up", ".1%"),
    "share_up": ("share up", ".1%"),
    "mean_probability": ("mean forecast", ".1%"),
    "accuracy": ("accuracy", ".3f"),
    "auc_roc": ("AUC", ".3f"),
    "auc_low": ("AUC low", ".3f"),
    "auc_high": ("AUC high", ".3f"),
    "log_loss": ("log-loss", ".4f"),
    "log_loss_gain": ("log-loss gain", "+.4f"),
    "strategy_return": ("strategy's return", "+.2%"),
}


def _table(rows: pd.DataFrame, caption: str) -> Table:
    """Show a table of the findings under headings for people."""
    headings = {
        name: _COLUMNS.get(name, (in_words(name, capital=False), ""))
        for name in map(str, rows.columns)
    }
    numbers = {
        heading: spec
        for name, (heading, spec) in headings.items()
        if pd.api.types.is_numeric_dtype(rows[name])
    }
    named = rows.rename(columns={name: heading for name, (heading, _) in headings.items()})
    return Table(named, caption, numbers)
