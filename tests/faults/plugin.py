"""Prints the table of what came of the faults, however many test processes tried them."""

import os
from pathlib import Path
from typing import Any

import pytest

from faults.cells import Cell, as_text, table


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if (name := getattr(getattr(item, "function", None), "fault", None)) is not None:
            backend = item.callspec.params["place"]  # type: ignore[attr-defined]
            item.user_properties += [("fault", name), ("backend", backend)]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table; those of several test processes are one. ``FAULT_TABLE`` names a file."""
    reports = [each for several in terminalreporter.stats.values() for each in several]
    cells = [Cell.of(each) for each in reports if isinstance(each, pytest.TestReport)]
    found = [each for each in cells if each]
    if not found:
        return
    lines = as_text(table(found))
    terminalreporter.section("what was lost")
    for line in lines:
        terminalreporter.write_line(line)
    if file := os.environ.get("FAULT_TABLE"):
        Path(file).write_text("\n".join(lines) + "\n", encoding="utf-8")
