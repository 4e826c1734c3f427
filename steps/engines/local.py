"""Work on the cores of this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    function: Callable[[Item], Result], items: Sequence[Item], *, n_jobs: int
) -> Iterator[Result]:
    """Call a function with every item, in several processes, and yield the results in order.

    Parameters
    ----------
    function : callable
        Pure, and importable by name: it is called in other processes.
    items : sequence
        Small, such as places in files, for each goes through a pipe.
    n_jobs : int
        Processes; 0: one for each core; 1: none but this one.
    """
    processes = min(n_jobs or usable_cores(), len(items))
    if processes < 2:
        yield from map(function, items)
        return
    from joblib import Parallel, delayed  # here, for a small job needs none

    # Results are large: no more of them than there are processes wait to be asked for.
    parallel = Parallel(
        n_jobs=processes, return_as="generator", pre_dispatch=processes, batch_size=1
    )
    yield from parallel(delayed(function)(item) for item in items)


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
