"""`make bench`: what Candlewick costs, beside what others take for the same, as ratios of one run.

Every part has a database of its own in a fresh copy of the project. A part that fails costs its own
rows only.
"""

import argparse
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from bench import features, imports, serving, sizes, training, whole_runs
from bench.measure import Row, Workplace, table_lines
from end_to_end.recipe import ROOT, copy_project

PARTS: dict[str, Callable[..., Iterator[Row]]] = {
    "whole_runs": whole_runs.measure,
    "features": features.measure,
    "training": training.measure,
    "sizes": sizes.measure,
    "imports": imports.measure,
}
README = ROOT / "README.md"
BETWEEN = re.compile(r"(?<=<!-- bench -->\n).*?(?=<!-- /bench -->)", re.DOTALL)


def rows_of(part: str, *, quick: bool) -> Iterator[Row]:
    """Measure one part; where that fails, the last row says why."""
    with tempfile.TemporaryDirectory(prefix="candlewick-") as name:
        (project := Path(name, "project")).mkdir()
        try:
            place = Workplace(copy_project(project), Path(name))
            yield from PARTS[part](place, quick=quick)
        except Exception as error:  # whatever it is, the other parts go on
            yield Row(part, "", f"failed: {str(error) or type(error).__name__}")


def machine() -> str:
    """Say in one line what this was measured on."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("mlflow", "xgboost", "pandas"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores, {platform.machine()}, Python {platform.python_version()}, {packages}"


def main(arguments: Sequence[str]) -> int:
    """Measure, print each row as it is known and all of them as a table, and say whether all are.

    Returns
    -------
    int
        0 if every row was measured, whatever it says; 1 if some could not be.
    """
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything, in 4 minutes")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    parser.add_argument("parts", nargs="*", help="those to measure; default: all")
    given = parser.parse_args(arguments)
    known = [*PARTS, "serving"]
    if unknown := sorted({*given.parts} - {*known}):
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(known)}")
    started = time.perf_counter()
    rows = []
    for part in given.parts or PARTS:
        if part in PARTS:
            for row in rows_of(part, quick=given.quick):
                print(*row.cells(), sep="  ", flush=True)
                rows.append(row)
    if rows:
        minutes = (time.perf_counter() - started) / 60
        written = "\n".join([f"{machine()}; {minutes:.0f} minutes", "", *table_lines(rows)])
        print(f"\n{written}")
        if given.write:
            text = README.read_text()
            README.write_text(BETWEEN.sub(lambda _: f"{written}\n", text))
    if "serving" in given.parts or not (given.parts or given.quick):
        serving.main()
    return int(any(row.reached.startswith("failed") for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
