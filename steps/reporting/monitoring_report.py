"""The page of a watch over a model: the verdict first, then everything it rests on."""

from __future__ import annotations

from typing import Final

from steps.market.price_report import counted
from steps.reporting.monitoring_findings import MonitoringFindings
from steps.reporting.page import Page, Status, write_value
from steps.reporting.sections.drift import drift_section
from steps.reporting.sections.found import found_section
from steps.reporting.sections.live import live_section
from steps.reporting.sections.origin import lineage_section, reproduce_section
from steps.reporting.sections.quality import quality_section

_COLOURS: Final[dict[str, Status]] = {"stable": "good", "drift": "bad", "unknown": "neutral"}


def build_monitoring_report(findings: MonitoringFindings) -> Page:
    """Put what a watch found in order, as a page.

    Parameters
    ----------
    findings : MonitoringFindings

    Returns
    -------
    Page
        For `steps.reporting.page.render_page`.
    """
    return Page(
        title=findings.title,
        kicker=_kicker(findings),
        sentence=findings.sentence,
        status=_COLOURS[findings.status],
        badge=findings.status.upper(),
        sections=[
            found_section(findings),
            drift_section(findings),
            live_section(findings),
            quality_section(findings),
            lineage_section(findings),
            reproduce_section(
                findings, "The same prices, model and evaluation give the same findings."
            ),
        ],
    )


def _kicker(findings: MonitoringFindings) -> str:
    if findings.new_dates is None:
        return "Candlewick monitoring · no new rows"
    first, last = (write_value(day) for day in findings.new_dates)
    return f"Candlewick monitoring · {counted(findings.new_rows, 'new row')}, {first} to {last}"
