"""Which features look different from when the model learned from them."""

from __future__ import annotations

import pandas as pd

from steps.market.price_report import first_of
from steps.reporting.drift_figures import (
    distributions_figure,
    has_drifted,
    is_judged,
    psi_figure,
    worst_first,
)
from steps.reporting.monitoring_findings import FORECAST, MonitoringFindings
from steps.reporting.page import Block, Mark, Picture, Section, Table, Text, write_value
from steps.reporting.sections.wording import write_p
from steps.reporting.style import NOT_KNOWN


def drift_section(findings: MonitoringFindings) -> Section:
    """Show how far each feature moved, and both distributions of those that moved most."""
    drift = findings.drift
    if drift.empty:
        return Section("Drift", [Text("No feature was compared.")])
    blocks: list[Block] = []
    if drift["psi"].notna().any():
        blocks.append(Picture(psi_figure(drift, findings.psi_bound), wide=True))
    blocks.append(_table(findings))
    bounds = (
        f"A feature drifted where its PSI lies above {findings.psi_bound:g} and its adjusted "
        f"p-value below {findings.alpha:g}."
    )
    if (drift["feature"] == FORECAST).any():
        bounds += f" The row “{FORECAST}” is the model's own probability of a rise."
    blocks.append(Text(bounds))
    if without := _not_compared(drift):
        blocks.append(
            Text(
                f"Not compared: {first_of(without)}, for it follows from the date, and a part of a "
                "year is not spread as whole years are."
            )
        )
    distributions = distributions_figure(drift, findings.reference, findings.new)
    if distributions is None:
        blocks.append(Text("There are no rows on both sides to draw."))
    else:
        blocks.append(Picture(distributions, wide=True))
    return Section(
        "Drift",
        blocks,
        "The population stability index (PSI) compares the shares of rows per bin: below 0.1 is "
        "stable, above 0.25 has shifted (Siddiqi 2006). The p-values come from blocks of dates and "
        "are adjusted for the number of features (Holm); drift says nothing on whether forecasts "
        "got worse.",
    )


def _not_compared(drift: pd.DataFrame) -> list[str]:
    return [str(name) for name in drift.loc[drift["psi"].isna(), "feature"] if name != FORECAST]


def _table(findings: MonitoringFindings) -> Table:
    drift = worst_first(findings.drift)
    rows = [
        {
            "feature": row["feature"],
            "PSI": write_value(row["psi"], ".3f"),
            "KS": write_value(row["ks"], ".3f"),
            "p-value": write_p(row["p_value"]),
            "adjusted": write_p(row["p_adjusted"]),
            "drifted": (Mark("yes", "bad") if drifted else "no") if judged else NOT_KNOWN,
        }
        for row, drifted, judged in zip(
            drift.to_dict("records"), has_drifted(drift), is_judged(drift), strict=True
        )
    ]
    numbers = dict.fromkeys(["PSI", "KS", "p-value", "adjusted"], "")
    return Table(rows, "How far each feature moved", numbers)
