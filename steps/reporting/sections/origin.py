"""Where it all comes from: data, windows, lineage, parameters, and how to do it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from steps.reporting.findings import EvaluationFindings
from steps.reporting.page import Block, Code, Facts, Section, Table, Text, write_value
from steps.reporting.sections.wording import in_words
from steps.reporting.style import NOT_KNOWN

_MOST_NAMES: Final = 30


class Traced(Protocol):
    """Findings that say where they come from, of an evaluation or another step."""

    @property
    def lineage(self) -> Mapping[str, str]:
        """Snapshot ID, commit, run IDs, model."""

    @property
    def params(self) -> Mapping[str, Any]:
        """How it was done."""

    @property
    def reproduce(self) -> Sequence[str]:
        """Commands, one after the other."""


def data_section(findings: EvaluationFindings) -> Section:
    """Tell what the snapshot holds, how it was made, and how it was split."""
    manifest = dict(findings.manifest)
    symbols, features = (list(manifest.pop(name, [])) for name in ("symbols", "feature_names"))
    for name in ("feature_count", "feature_types"):
        manifest.pop(name, None)
    span = [manifest.pop(name, None) for name in ("first_date", "last_date")]
    facts = {
        "Dates": " to ".join(write_value(day) for day in span),
        "Symbols": _listed(symbols),
        "Features": _listed(features),
        **{in_words(name): value for name, value in manifest.items()},
    }
    made = {in_words(name): value for name, value in findings.provenance.items()}
    windows = _windows(findings.windows)
    blocks: list[Block] = [Facts(facts)]
    if windows:
        blocks.append(Table(windows, "Windows of the split"))
    if made:
        blocks += [Text("How the snapshot was made:"), Facts(made, literal=True)]
    return Section(
        "Data and snapshot",
        blocks,
        "A row stays in a window only if its label was known before the next window begins, less "
        "the embargo.",
    )


def _windows(
    windows: Mapping[str, Any] | Sequence[Mapping[str, Any]],
) -> list[dict[str, object]]:
    splits = [windows] if isinstance(windows, Mapping) else list(windows)
    rows: list[dict[str, object]] = []
    for number, split in enumerate(splits, 1):
        for name, window in split.items():
            if isinstance(window, Mapping):
                fold = f"{number}: {name}" if len(splits) > 1 else name
                rows.append(
                    {
                        "window": fold,
                        **{in_words(key, capital=False): each for key, each in window.items()},
                    }
                )
    return rows


def _listed(names: Sequence[object]) -> str:
    """Count names, and name them; of many, the first."""
    shown = ", ".join(str(name) for name in names[:_MOST_NAMES])
    rest = f", and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    return f"{len(names):,}: {shown}{rest}" if names else NOT_KNOWN


def lineage_section(findings: Traced) -> Section:
    """Name the runs, the commit, the model and the parameters."""
    lineage = {in_words(name): value for name, value in findings.lineage.items()}
    params = {name: _exactly(value) for name, value in findings.params.items()}
    return Section(
        "Lineage and parameters",
        [Facts(lineage, literal=True), Facts(params, literal=True)],
        "The snapshot's ID names every value the model learned from.",
    )


def _exactly(value: object) -> str:
    """Write a parameter with all its digits."""
    known = write_value(value) != NOT_KNOWN
    return str(value) if known and isinstance(value, float) else write_value(value)


def reproduce_section(
    findings: Traced,
    note: str = "The same snapshot and parameters give the same predictions, bit for bit.",
) -> Section:
    """Give the commands that do it again."""
    if not findings.reproduce:
        return Section("How to reproduce", [Text("No command was recorded.")])
    return Section(
        "How to reproduce",
        [Code("\n".join(findings.reproduce))],
        note,
    )
