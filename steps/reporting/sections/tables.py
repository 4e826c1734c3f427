"""Tables of findings, under headings for people."""

from __future__ import annotations

from typing import Final

import pandas as pd

from steps.reporting.page import Table
from steps.reporting.sections.wording import in_words

# Column: its heading, and how its numbers are written.
_COLUMNS: Final = {
    "fold": ("fold", "d"),
    "first_date": ("from", ""),
    "last_date": ("to", ""),
    "rows": ("rows", ",.0f"),
    "train_rows": ("rows trained on", ",.0f"),
    "dates": ("dates", ",.0f"),
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
    "oddities": ("oddities", ",.0f"),
    "missing_days": ("missing", ",.0f"),
    "zero_volume_days": ("no volume", ",.0f"),
    "longest_unchanged": ("unchanged", ",.0f"),
    "largest_move": ("largest move", "+.1%"),
    "age": ("age", ",.0f"),
}


def findings_table(rows: pd.DataFrame, caption: str) -> Table:
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
