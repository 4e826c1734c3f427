"""What it takes to import a step."""

from collections.abc import Iterator

from bench.measure import Row, Workplace, alternate, at_most

STEPS = (
    *("featurize", "train", "evaluate", "walk_forward", "pipeline", "promote", "rollback"),
    *("reproduce", "predict", "monitor", "doctor", "sync"),
)


def measure(place: Workplace, *, quick: bool) -> Iterator[Row]:
    """Yield the CPU seconds of each step's import."""
    steps = STEPS[:3] if quick else STEPS
    modules = {step: f"steps.{step}" for step in steps}
    tasks = {
        name: lambda module=module: place.python("-c", f"import {module}").cpu
        for name, module in {"together": "mlflow, xgboost, pandas", **modules}.items()
    }
    took = alternate(tasks, 3 if quick else 7)
    for step in steps:
        yield at_most(
            f"`import steps.{step}`",
            "`import mlflow, xgboost, pandas`",
            took[step] / took["together"],
            1.1,
        )
