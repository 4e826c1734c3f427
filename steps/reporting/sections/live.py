"""How good the forecasts have been since the evaluation, where labels are known."""

from __future__ import annotations

import pandas as pd

from steps.reporting.live_figures import live_figure, months_figure
from steps.reporting.monitoring_findings import MonitoringFindings
from steps.reporting.page import Block, Picture, Section, Table, Text, write_value
from steps.reporting.sections.tables import findings_table
from steps.reporting.sections.wording import SCORES, in_words, interval_name
from steps.reporting.style import NOT_KNOWN


def live_section(findings: MonitoringFindings) -> Section:
    """Set the scores on new rows beside those of the evaluation, and show each month's."""
    blocks: list[Block] = []
    if findings.performance_note:
        blocks.append(Text(findings.performance_note))
    elif findings.performance.empty:
        blocks.append(Text("No score is known on new rows."))
    if not findings.performance.empty:
        blocks += _scores(findings)
    if not findings.by_month.empty:
        if len(findings.by_month) > 1 and findings.by_month["auc_roc"].notna().any():
            blocks.append(Picture(months_figure(findings.by_month), wide=True))
        blocks.append(findings_table(findings.by_month, "Month by month"))
    return Section(
        "Live performance",
        blocks,
        "Only rows whose label is known by now count. Where the two intervals overlap, chance "
        "alone may explain the difference; single months swing widely.",
    )


def _scores(findings: MonitoringFindings) -> list[Block]:
    estimates = {"live": findings.live, "evaluation": findings.then}
    interval = interval_name({name: each for name, each in estimates.items() if each is not None})
    rows, names = [], []
    for row in findings.performance.to_dict("records"):
        metric = str(row["metric"])
        name, spec, meaning = SCORES.get(metric, (in_words(metric), ".4f", ""))
        names.append(name)
        rows.append(
            {
                "score": name,
                "new rows": write_value(row["live"], spec),
                interval: _ends(row["low"], row["high"], spec),
                "evaluation": write_value(row["evaluation"], spec),
                f"its {interval}": _ends(row["evaluation_low"], row["evaluation_high"], spec),
                "what it says": meaning,
            }
        )
    numbers = dict.fromkeys(["new rows", interval, "evaluation", f"its {interval}"], "")
    blocks: list[Block] = [Table(rows, "Scores on new rows and at the evaluation", numbers)]
    if findings.performance["live"].notna().any():
        blocks.append(Picture(live_figure(findings.performance.assign(name=names)), wide=True))
    return blocks


def _ends(low: float, high: float, spec: str) -> str:
    if pd.isna(low):
        return NOT_KNOWN
    return f"{write_value(low, spec)} to {write_value(high, spec)}"
