"""Memory beside the size of the table, and how time and memory grow with the number of rows."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from bench.measure import Cost, Row, Workplace, at_most
from bench.prices import write_prices

_DAYS = 2_500
_BYTES = 4 * 23 + 8 + 4 + 1 + 8
"""Of a row of the table in memory: features, date, symbol, direction, the label's date."""
_BUDGET = 300
_ROUNDS = 20


@dataclass(frozen=True)
class _Size:
    """What one number of rows took."""

    rows: int
    featurize: Cost
    train: Cost

    @property
    def table(self) -> float:
        """MB of the feature table."""
        return self.rows * _BYTES / 2**20


def measure(place: Workplace, *, quick: bool) -> Iterator[Row]:
    """Yield peaks of memory for the largest table, then the exponents."""
    counts = (40, 120, 400) if quick else (40, 400, 4_000)
    sizes = [_of(place, symbols) for symbols in counts]
    largest = sizes[-1]
    table = f"its table: {largest.rows / 1e6:.1f} M rows, {largest.table:,.0f} MB"
    for step in ("featurize", "train"):
        ratio = getattr(largest, step).peak / largest.table
        yield at_most(f"peak memory of {step}", table, ratio, 2.5, counts=not quick)
    out_of_core = _train(place, memory_budget=_BUDGET if not quick else 0)
    yield at_most(
        "peak memory of train, out of core",
        table,
        out_of_core.peak / largest.table,
        1.0,
        counts=not quick,
    )
    yield Row(
        "time of train, out of core", "in memory", f"{out_of_core.wall / largest.train.wall:.2f}x"
    )
    span = " to ".join(f"{size.rows / 1e6:.1f}" for size in (sizes[0], largest))
    for step in ("featurize", "train"):
        for name, unit in (("wall", "time"), ("peak", "memory")):
            exponents = [_exponent(some, step, name) for some in (sizes, sizes[-2:])]
            yield Row(
                f"growth of {step}'s {unit}, {span} M rows",
                "itself",
                f"exponent {exponents[0]:.2f}; of the last step {exponents[1]:.2f}",
                "≤ 1",
                max(exponents) <= 1.0,
            )


def _of(place: Workplace, symbols: int) -> _Size:
    prices = write_prices(place.folder / "prices.parquet", symbols, _DAYS)
    # In one process: what several take together, the system does not tell.
    made = place.python("-m", "steps.featurize", f"--prices={prices}", "--n_jobs=1")
    prices.unlink()
    return _Size(symbols * (_DAYS - 33), made, _train(place))


def _train(place: Workplace, memory_budget: int = 100_000) -> Cost:
    return place.python(
        *("-m", "steps.train", f"--n_estimators={_ROUNDS}", "--early_stopping_rounds=0"),
        f"--memory_budget={memory_budget}",
    )


def _exponent(sizes: list[_Size], step: str, name: str) -> float:
    """Fit cost = constant * rows ** exponent."""
    rows = np.log([size.rows for size in sizes])
    costs = np.log([getattr(getattr(size, step), name) for size in sizes])
    return float(np.polyfit(rows, costs, 1)[0])
