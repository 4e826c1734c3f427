"""Numbers as they are handed in, turned into metrics with a step and a time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Metric

from steps.tracking.values import checked_name, flatten, metric_number


class MetricSteps:
    """The steps at which a run has logged its metrics so far."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def place(self, metrics: Mapping[str, Any], step: int | None = None) -> list[Metric]:
        """Make metrics of numbers, of all of them or, where one is not good, of none.

        Parameters
        ----------
        metrics : mapping of str to number
            Nested mappings become dotted names.
        step : int, optional
            Default: the step after the last of each name, or 0. MLflow takes the value at the
            highest step for the run's.

        Raises
        ------
        TypeError
            If a value is no number.
        ValueError
            If a name is not one MLflow keeps.
        """
        now = time.time_ns() // 1_000_000
        numbers = {
            checked_name("metric", name): metric_number(name, value)
            for name, value in flatten(metrics)
        }
        placed = []
        for name, number in numbers.items():
            following = self._next.get(name, 0)
            placed.append(Metric(name, number, now, following if step is None else step))
            if step is not None:
                self._next[name] = max(following, step + 1)
        return placed
