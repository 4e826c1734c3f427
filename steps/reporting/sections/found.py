"""What a watch found, and what it looked at."""

from __future__ import annotations

from datetime import date
from typing import Final

import pandas as pd

from steps.market.price_report import counted
from steps.reporting.drift_figures import has_drifted, is_judged
from steps.reporting.findings import Estimate
from steps.reporting.monitoring_findings import FORECAST, MonitoringFindings
from steps.reporting.page import Block, Facts, Notice, Section, Status, Text, write_value
from steps.reporting.sections.wording import ends, interval_name
from steps.reporting.style import NOT_KNOWN

# Status: the colour of the reasons, what stands above them, and what is said without any.
_REASONS: Final[dict[str, tuple[Status, str, str]]] = {
    "stable": ("good", "What it rests on", "Nothing that was asked came out badly."),
    "drift": ("bad", "What led to it", "No reason was given."),
    "unknown": ("neutral", "Too little data to tell", "There is too little data to tell."),
}


def found_section(findings: MonitoringFindings) -> Section:
    """Give the reasons, then the rows and figures they rest on."""
    colour, title, without = _REASONS[findings.status]
    reasons: Block = Notice(title, findings.reasons, colour) if findings.reasons else Text(without)
    new = _rows(findings.new_rows, findings.new_dates) if findings.new_dates else "none"
    facts = {
        "New rows": new,
        "Reference": _rows(findings.reference_rows, findings.reference_dates),
        **_drifted(findings.drift),
        "AUC on new rows": _estimate(findings.live),
        "AUC at the evaluation": _estimate(findings.then),
        "Oddities in prices": len(findings.oddities),
    }
    return Section("What was found", [reasons, Facts(facts)])


def _rows(count: int, dates: tuple[date, date]) -> str:
    first, last = (write_value(day) for day in dates)
    return f"{counted(count, 'row')}, {first} to {last}"


def _drifted(drift: pd.DataFrame) -> dict[str, str]:
    """Say how many of the features drifted, and whether the forecasts did."""
    judged = drift[is_judged(drift)] if len(drift) else pd.DataFrame(columns=["feature", "drifted"])
    forecasts = judged["feature"] == FORECAST
    features, own = (has_drifted(judged[which]) for which in (~forecasts, forecasts))
    n = len(features)
    return {
        "Features that drifted": f"{features.sum():,} of {n:,}" if n else NOT_KNOWN,
        "Forecasts drifted": ("yes" if own.any() else "no") if len(own) else NOT_KNOWN,
    }


def _estimate(estimate: Estimate | None) -> str:
    if estimate is None:
        return NOT_KNOWN
    value = write_value(estimate.value, ".3f")
    return f"{value}, {interval_name({'AUC': estimate})} {ends(estimate, '.3f')}"
