"""The whole recipe beside a bare script, and beside projects that are built in the usual way."""

from collections.abc import Iterator
from pathlib import Path

from bench.measure import PROGRAMS, Row, Workplace, alternate, at_most, faster

SAMPLE = Path("steps", "market", "sample", "prices.parquet")


def measure(place: Workplace, *, quick: bool) -> Iterator[Row]:
    """Run them in turn on the sample, and yield what they took of one another's time."""
    bare = [PROGRAMS / "bare_script.py", SAMPLE, place.folder / "mlruns"]
    project = ["-m", "mlflow", "run", "--env-manager", "local"]
    commands = {
        "bare": bare,
        "plain": ["-m", "steps.pipeline", "--reuse=none"],
        "door": [*project, PROGRAMS / "door"],
        "ours": [*project, ".", "-P", "reuse=none"],
        "chain": [*project, PROGRAMS / "chain", "-P", f"prices={place.folder / SAMPLE}"],
    }
    (place.folder / "mlruns").mkdir(exist_ok=True)
    tasks = {
        name: lambda command=command: place.python(*command).wall
        for name, command in commands.items()
    }
    if quick:
        chain = tasks.pop("chain")  # takes as long as all the others
        took = alternate(tasks, 2) | {"chain": chain()}
    else:
        took = alternate(tasks, 7)
    yield at_most(
        "`python -m steps.pipeline`",
        "the same job as one bare script, no MLflow",
        took["plain"] / took["bare"],
        2.0,
    )
    yield at_most(
        "`mlflow run . --env-manager local`",
        "the bare script + an `mlflow run` that opens a run",
        took["ours"] / (took["bare"] + took["door"]),
        1.15,
    )
    yield faster(
        "`mlflow run . --env-manager local`",
        "a chain of `mlflow run` children, files between them, each metric by itself",
        took["chain"] / took["ours"],
        2.5,
    )
