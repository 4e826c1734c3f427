"""Metrics on their way to MLflow: many to a request, none lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from mlflow.entities import Metric

from steps.tracking.values import checked_name, flatten, metric_number

METRICS_PER_REQUEST: Final = 1000  # MLflow's own limit
STALE_AFTER: Final = 5.0  # seconds a training curve may lag behind while a run is going on


class MetricBuffer:
    """Holds metrics until there are enough for a request.

    Parameters
    ----------
    send : callable
        Stores a list of at most a thousand metrics.
    """

    def __init__(self, send: Callable[[list[Metric]], object]) -> None:
        self._send = send
        self._waiting: list[Metric] = []
        self._next_step: dict[str, int] = {}
        self._sent_at = time.monotonic()

    @property
    def is_stale(self) -> bool:
        """Whether nothing was sent for some seconds."""
        return time.monotonic() - self._sent_at > STALE_AFTER

    def add(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Take metrics in, all of them or, where one is not good, none.

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
        for name, number in numbers.items():
            following = self._next_step.get(name, 0)
            self._waiting.append(Metric(name, number, now, following if step is None else step))
            if step is not None:
                self._next_step[name] = max(following, step + 1)

    def send_full(self) -> None:
        """Send what fills a whole request."""
        while len(self._waiting) >= METRICS_PER_REQUEST:
            self._send_batch()

    def flush(self) -> None:
        """Send all that is waiting."""
        while self._waiting:
            self._send_batch()

    def _send_batch(self) -> None:
        batch = self._waiting[:METRICS_PER_REQUEST]
        self._send(batch)
        del self._waiting[: len(batch)]  # only once they are stored: a failed request keeps them
        self._sent_at = time.monotonic()
