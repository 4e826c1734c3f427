"""Whether the new prices can be trusted."""

from __future__ import annotations

from collections import Counter
from typing import Final

from steps.market.price_report import counted
from steps.reporting.monitoring_findings import MonitoringFindings, Oddity
from steps.reporting.page import Block, Notice, Section, Text
from steps.reporting.sections.tables import findings_table
from steps.reporting.sections.wording import in_words

MOST_SYMBOLS: Final = 50
MOST_ODDITIES: Final = 10
# What makes a symbol one to look at, the weightiest first.
_WORST_BY: Final = ["oddities", "missing_days", "zero_volume_days", "longest_unchanged", "age"]


def quality_section(findings: MonitoringFindings) -> Section:
    """Show each symbol's prices in numbers, the worst first, and all that is odd by kind."""
    blocks: list[Block] = []
    if findings.quality_symbols.empty:
        blocks.append(Text("There are no prices to judge."))
    else:
        blocks += _symbols(findings)
    by_kind: dict[str, list[Oddity]] = {}
    for oddity in findings.oddities:
        by_kind.setdefault(oddity.kind, []).append(oddity)
    blocks += [_notice(kind, oddities) for kind, oddities in by_kind.items()]
    if not by_kind:
        blocks.append(Text("Nothing about the prices is odd."))
    return Section(
        "Data quality",
        blocks,
        "What is odd may be right: a large move can be news. Missing, without volume and the "
        "longest run of equal closes are counted in days, age in weekdays since the last row.",
    )


def _symbols(findings: MonitoringFindings) -> list[Block]:
    odd = Counter(str(oddity.symbol) for oddity in findings.oddities)
    symbols = findings.quality_symbols.copy()
    symbols.insert(1, "oddities", [odd[str(symbol)] for symbol in symbols["symbol"]])
    worst = symbols.sort_values(_WORST_BY, ascending=False, kind="stable").head(MOST_SYMBOLS)
    blocks: list[Block] = [findings_table(worst, "Prices by symbol, the worst first")]
    left_out = len(symbols) - len(worst)
    if left_out:
        more = counted(left_out, "more symbol")
        blocks.append(Text(f"And {more}, with no more to look at than the last of these."))
    return blocks


def _notice(kind: str, oddities: list[Oddity]) -> Notice:
    lines = [oddity.text for oddity in oddities[:MOST_ODDITIES]]
    if len(oddities) > MOST_ODDITIES:
        lines.append(f"and {len(oddities) - MOST_ODDITIES:,} more")
    of_many = not oddities[0].symbol  # one line that says itself how many symbols there are
    number = "" if of_many else f" ({len(oddities):,})"
    return Notice(in_words(kind) + number, lines, "neutral")
