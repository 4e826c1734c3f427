"""The table of faults and backends: what is in it, and what came of each cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from services.backends import BACKENDS

FAULTS = (
    "SIGTERM during training",
    "Ctrl-C during training",
    "SIGTERM to mlflow run, its step training",
    "SIGKILL to mlflow run, its step training",
    "SIGKILL during training",
    "a machine lost power; another one only seemed to",
    "the store refuses connections during training, then returns",
    "the store falls silent during training, then returns",
    "the store is away until after the training has ended",
    "the store is away during a pipeline, and returns",
    "the store is away for longer than a pipeline waits",
    "the bucket alone is away until after the training has ended",
    "answers get lost during training",
    "eight pipelines at once in a new store",
    "the disk is full",
    "a byte of the stored snapshot flips",
    "a byte of the stored model flips",
    "SIGKILL while a snapshot is stored",
    "SIGKILL while a model is stored",
)
"""The rows, in their order."""

EVERYWHERE = BACKENDS
SERVERS = tuple(name for name in BACKENDS if name not in ("sqlite", "file"))
"""Those that may go away."""
BUCKETS = tuple(name for name in BACKENDS if name.endswith(("s3", "gcs")))

SURVIVED = "survived, nothing lost"
NO_SUCH_CELL = "\N{EN DASH}"

Test = TypeVar("Test", bound=Callable[..., None])


def fault(
    name: str, on: Iterable[str] = EVERYWHERE, *, sampled: Iterable[str] = ()
) -> Callable[[Test], Test]:
    """Make a test a row of the table, with a cell for each backend.

    Parameters
    ----------
    name : str
        One of FAULTS.
    on : iterable of str
        Backends, to which the fixture ``place`` goes one after the other.
    sampled : iterable of str
        Those which `make test` tries, too.
    """
    if name not in FAULTS:
        raise ValueError(f"{name!r} is not in FAULTS")
    cells = [
        pytest.param(
            backend,
            marks=[
                pytest.mark.slow,
                pytest.mark.faults,
                pytest.mark.xdist_group(backend),  # which has its servers in one test process
                *([pytest.mark.sampled] if backend in sampled else []),
            ],
        )
        for backend in on
    ]

    def make_row(test: Test) -> Test:
        test.fault = name  # type: ignore[attr-defined]
        return pytest.mark.parametrize("place", cells, indirect=True)(test)

    return make_row


class Losses:
    """What a test finds missing, or different: for the table, and then the test fails."""

    def __init__(self, properties: list[tuple[str, object]]) -> None:
        self._properties = properties

    def check(self, expected: dict[str, Any], found: dict[str, Any]) -> None:
        """Compare what a run holds with what it should."""
        different = [
            name for name in sorted(expected | found) if expected.get(name) != found.get(name)
        ]
        if different:
            self._properties.append(("lost", ", ".join(different)))
        for name in different:  # one at a time: pytest shows where they differ
            assert found.get(name) == expected.get(name), name


@dataclass(frozen=True)
class Cell:
    """What came of one test."""

    fault: str
    backend: str
    text: str

    @classmethod
    def of(cls, report: Any) -> Cell | None:
        """Read a report of pytest; None where it tells of no cell."""
        told = dict(report.user_properties)
        if "fault" not in told or (report.when != "call" and report.passed):
            return None
        if report.skipped:
            text = f"not tried: {report.longrepr[2].removeprefix('Skipped: ')}"
        elif report.passed:
            text = SURVIVED
        else:
            text = f"LOST: {told['lost']}" if "lost" in told else "DID NOT SURVIVE"
        return cls(str(told["fault"]), str(told["backend"]), text)


def table(cells: Iterable[Cell]) -> list[list[str]]:
    """Return the rows of the table, its head first; rows that nobody tried are left out."""
    found = {(each.fault, each.backend): each.text for each in cells}
    tried = [name for name in FAULTS if any(name == fault for fault, _ in found)]
    return [
        ["", *BACKENDS],
        *([name, *(found.get((name, each), NO_SUCH_CELL) for each in BACKENDS)] for name in tried),
    ]


def as_text(rows: list[list[str]]) -> list[str]:
    """Return a table in lines for a terminal, which are Markdown at the same time."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(map(str.ljust, row, widths)) + " |"  # type: ignore[arg-type]
        for row in rows
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
