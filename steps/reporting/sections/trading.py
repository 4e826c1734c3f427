"""What the forecasts would have earned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from steps.reporting.curves import equity_figure
from steps.reporting.findings import Estimate, EvaluationFindings
from steps.reporting.page import Picture, Section, Table, Text, write_value
from steps.reporting.sections.wording import ends, in_words, interval_name

# Statistic: what it is called, how it is written, what it says.
_STATISTICS: Final = {
    "total_return": ("Total return", "+.1%", ""),
    "annual_return": ("Annual return", "+.1%", "constant return a year that makes the same"),
    "annual_volatility": ("Annual volatility", ".1%", ""),
    "sharpe": ("Sharpe ratio", ".2f", "mean over standard deviation, annual, no riskless rate"),
    "sharpe_gain": ("Sharpe ratio gain", "+.2f", "over buy and hold on the same days"),
    "sortino": ("Sortino ratio", ".2f", "mean over the root mean square of losses, annual"),
    "max_drawdown": ("Largest drawdown", ".1%", "deepest fall from a high"),
    "hit_rate": ("Hit rate", ".1%", "share of invested days that gained"),
    "exposure": ("Exposure", ".1%", "mean share of the capital at work"),
    "turnover": ("Turnover", ".1%", "mean share of the capital traded a day"),
}


_STYLES: Final = {
    "long_flat": "A symbol called up is held, any other is not",
    "long_short": "A symbol called up is held, any other is sold short",
}


_BENCHMARK: Final = "buy_and_hold_"


def backtest_section(findings: EvaluationFindings) -> Section:
    """Show what trading on the forecasts made, beside buy and hold."""
    if findings.daily is None or findings.daily.empty:
        return Section(
            "Backtest",
            [
                Text(
                    "There is none: no returns from open to close, and from close to open, came "
                    "with the features, so there was nothing to trade at."
                )
            ],
        )
    return Section(
        "Backtest",
        [
            Picture(equity_figure(findings.daily), wide=True),
            _statistics_table(findings.backtest_statistics, findings.backtest_intervals),
        ],
        f"{_STYLES.get(findings.style, in_words(findings.style))}: decided at the close, traded "
        f"at the next open, equal weights, {findings.cost_bps:g} basis points of each trade for "
        "costs. Buy and hold owns the same symbols all along.",
    )


def _statistics_table(statistics: Mapping[str, float], intervals: Mapping[str, Estimate]) -> Table:
    interval = interval_name(intervals)
    own = [name for name in statistics if not name.startswith(_BENCHMARK)]
    ordered = sorted(
        dict.fromkeys([*own, *intervals]),
        key=lambda name: list(_STATISTICS).index(name) if name in _STATISTICS else len(_STATISTICS),
    )
    rows = []
    for statistic in ordered:
        name, spec, meaning = _STATISTICS.get(statistic, (in_words(statistic), ".3f", ""))
        estimate = intervals.get(statistic)
        value = statistics.get(statistic, estimate.value if estimate else None)
        rows.append(
            {
                "statistic": name,
                "strategy": write_value(value, spec),
                interval: ends(estimate, spec) if estimate else "",
                "buy and hold": write_value(statistics.get(_BENCHMARK + statistic), spec),
                "what it says": meaning,
            }
        )
    numbers = {"strategy": "", interval: "", "buy and hold": ""}
    return Table(rows, "What the forecasts would have earned", numbers)
