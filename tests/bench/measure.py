"""What a command costs, and how that compares: the tools of the benchmarks."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from end_to_end.recipe import environment

PROGRAMS = Path(__file__).parent / "programs"


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes
    ----------
    what, against : str
        What was measured, and beside what.
    reached, target : str
        Ratios, in words.
    met : bool or None
        None where there is no target, or where less was measured than the target is about.
    """

    what: str
    against: str
    reached: str
    target: str = ""
    met: bool | None = None

    def cells(self) -> list[str]:
        """Return the row as the table has it."""
        met = {True: "yes", False: "no", None: ""}[self.met]
        return [self.what, self.against, self.reached, self.target, met]


def at_most(what: str, against: str, ratio: float, limit: float, *, counts: bool = True) -> Row:
    """Return a row whose ratio should not be larger than a limit.

    Parameters
    ----------
    counts : bool
        Whether enough was measured for the target to be met or missed.
    """
    met = round(ratio, 2) <= limit if counts else None
    return Row(what, against, f"{ratio:.2f}x", f"≤ {limit:g}x", met)


def faster(what: str, against: str, ratio: float, limit: float, *, counts: bool = True) -> Row:
    """Return a row whose ratio, theirs to ours, should be no smaller than a limit."""
    written = f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"
    met = ratio >= limit if counts else None
    return Row(what, against, f"{written}x faster", f"≥ {limit:g}x", met)


@dataclass(frozen=True)
class Cost:
    """What a process took, with all that it waited for.

    Attributes
    ----------
    wall, cpu : float
        Seconds.
    peak : float
        MB of memory, of the largest process.
    """

    wall: float
    cpu: float
    peak: float


class FailedError(RuntimeError):
    """A command that should be measured did not do its work."""


class Workplace:
    """A folder that commands are run in, with a database of its own that is there already.

    Parameters
    ----------
    folder : Path
        Where `steps` can be imported from.
    state : Path
        What the steps keep between runs.
    """

    def __init__(self, folder: Path, state: Path) -> None:
        self.folder = folder
        self._environment = environment(
            CANDLEWICK_STATE=str(state / "state"),
            CANDLEWICK_CACHE=str(state / "cache"),
            PYTHONPATH=str(folder),
        )
        self.python("-c", "import mlflow; mlflow.search_experiments()")

    def python(self, *arguments: str | Path) -> Cost:
        """Run Python with arguments, and return what that took."""
        return self._run([sys.executable, *map(str, arguments)])[0]

    def told(self, program: str, *arguments: str | Path) -> dict[str, Any]:
        """Run one of the programs, and return what it tells as JSON in its last line."""
        command = [sys.executable, str(PROGRAMS / program), *map(str, arguments)]
        lines = self._run(command)[1].splitlines()
        answer: dict[str, Any] = json.loads(lines[-1])
        return answer

    def _run(self, command: Sequence[str]) -> tuple[Cost, str]:
        took = self.folder / "took.json"
        done = subprocess.run(
            [sys.executable, PROGRAMS / "cost.py", took, *command],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            last = [line for line in done.stdout.splitlines() if line.strip()][-3:]
            raise FailedError(f"{' '.join(command[1:4])} left with {done.returncode}: {last}")
        return Cost(**json.loads(took.read_text())), done.stdout


def alternate(
    tasks: Mapping[str, Callable[[], float]], times: int, *, warm_up: bool = True
) -> dict[str, float]:
    """Do tasks in turn, several times, and return the median of what each says it took.

    Whatever else the machine is doing so touches them all alike.
    """
    if warm_up:
        for task in tasks.values():
            task()
    took: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(times):
        for name, task in tasks.items():
            took[name].append(task())
    return {name: statistics.median(each) for name, each in took.items()}


def table_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Write rows as a Markdown table."""
    yield markdown(["what", "against", "reached", "target", "met"])
    yield markdown(["---", "---", "--:", "--:", "---"])
    for row in rows:
        yield markdown(row.cells())


def markdown(cells: Sequence[str]) -> str:
    """Write one line of a Markdown table."""
    return f"| {' | '.join(cells)} |"
