"""What it takes to import a step."""

from collections.abc import Iterator
from dataclasses import replace

from bench.measure import Row, Workplace, alternate, at_most

STEPS = (
    *("featurize", "train", "evaluate", "walk_forward", "pipeline", "promote", "rollback"),
    *("reproduce", "predict", "monitor", "doctor", "sync"),
)


def measure(place: Workplace, *, quick: bool) -> Iterator[Row]:
    """Yield the least and the most that a step takes."""
    steps = STEPS[:3] if quick else STEPS
    modules = {step: f"steps.{step}" for step in steps}
    tasks = {
        name: lambda module=module: place.python("-c", f"import {module}").cpu
        for name, module in {"together": "mlflow, xgboost, pandas", **modules}.items()
    }
    took = alternate(tasks, 2 if quick else 7)
    ratios = {step: took[step] / took["together"] for step in steps}
    least, most = min(ratios, key=ratios.__getitem__), max(ratios, key=ratios.__getitem__)
    row = at_most(
        f"`import` of each of {len(steps)} steps, CPU",
        "`import mlflow, xgboost, pandas`",
        ratios[most],
        1.1,
    )
    span = f"{ratios[least]:.2f}x ({least}) to {ratios[most]:.2f}x ({most})"
    yield replace(row, reached=span)
