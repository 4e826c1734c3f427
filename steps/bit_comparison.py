"""Two results of one training, compared bit by bit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

History = Sequence[tuple[int, float]]
_SHOWN: Final = 3


@dataclass(frozen=True)
class Results:
    """What came of a training run.

    Attributes
    ----------
    metrics : dict of str to sequence of (int, float)
        Every value of every metric, with its step.
    predictions : ndarray of float64, shape (n_rows,)
        The stored model's probability of a rise for every labelled row of the snapshot.
    files : dict
        The JSON artifacts that tell results, by name.
    """

    metrics: Mapping[str, History]
    predictions: NDArray[np.float64]
    files: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Comparison:
    """In what two results differ: nothing, if they are bit-identical.

    Attributes
    ----------
    rows, differing_rows : int
        Predictions compared, and those that differ in at least one bit.
    largest_difference : float
        Between two predictions of one row; 0 where all are equal.
    metrics, differing_metrics : tuple of str
        Those compared, and those that differ or that only one of the two has.
    files, differing_files : tuple of str
        Likewise.
    """

    rows: int
    differing_rows: int
    largest_difference: float
    metrics: tuple[str, ...]
    differing_metrics: tuple[str, ...]
    files: tuple[str, ...]
    differing_files: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Whether there are metrics, and every bit is equal."""
        return not self.findings

    @property
    def findings(self) -> list[str]:
        """What differs, in words."""
        found = []
        if self.differing_rows:
            found.append(
                f"predictions differ in {self.differing_rows:,} of {self.rows:,} rows, by up to "
                f"{self.largest_difference:.3g}"
            )
        if self.differing_metrics:
            more = len(self.differing_metrics) - _SHOWN
            named = ", ".join(self.differing_metrics[:_SHOWN])
            found.append(
                f"{len(self.differing_metrics)} of {len(self.metrics)} metrics differ "
                f"({named}{f' and {more} more' if more > 0 else ''})"
            )
        if not self.metrics:
            found.append("neither has any metrics")
        found += [f"{name} differs" for name in self.differing_files]
        return found


def compare(original: Results, copy: Results) -> Comparison:
    """Compare two results over the same rows, bit by bit.

    Examples
    --------
    >>> one = Results({"auc": [(0, 0.5)]}, np.array([0.25, 0.5]), {})
    >>> other = Results({"auc": [(0, 0.5)]}, np.array([0.25, 0.75]), {})
    >>> compare(one, one).identical
    True
    >>> compare(one, other).findings
    ['predictions differ in 1 of 2 rows, by up to 0.25']
    """
    a, b = original.predictions, copy.predictions
    differs = a.view(np.uint64) != b.view(np.uint64)
    metrics = tuple(sorted({*original.metrics, *copy.metrics}))
    files = tuple(sorted({*original.files, *copy.files}))
    return Comparison(
        rows=len(a),
        differing_rows=int(differs.sum()),
        largest_difference=float(np.max(np.abs(a - b)[differs], initial=0.0)),
        metrics=metrics,
        differing_metrics=tuple(
            name for name in metrics if _bits(original.metrics, name) != _bits(copy.metrics, name)
        ),
        files=files,
        differing_files=tuple(
            name
            for name in files
            if _canonical(original.files.get(name)) != _canonical(copy.files.get(name))
        ),
    )


def _bits(metrics: Mapping[str, History], name: str) -> list[tuple[int, str]]:
    """Return a history in a form in which NaN equals itself and 0.0 is not -0.0."""
    return [(step, float(value).hex()) for step, value in metrics.get(name, ())]


def _canonical(content: Mapping[str, Any] | None) -> str:
    """Return a file's content in a form in which 0.0 is not -0.0, and 1 neither 1.0 nor True."""
    return json.dumps(content, sort_keys=True)
