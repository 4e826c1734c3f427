"""A dask cluster on this machine, for as long as one is asked for."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from steps.engines import ClusterError

_CLOSING_SECONDS: Final = 5
_LOCAL_CLUSTER: Final = """
import os, sys
answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # nobody reads what workers print
from distributed import LocalCluster
with LocalCluster(
    n_workers=int(sys.argv[1]),
    threads_per_worker=1,
    host="127.0.0.1",
    dashboard_address=None,
    local_directory=sys.argv[2],
    memory_limit=0,  # one process would have no limit either
) as cluster:
    print(cluster.scheduler_address, file=answer, flush=True)
    sys.stdin.read()
"""
"""Not in this process: XGBoost's part on a scheduler can take the scheduler's process with it."""


@contextmanager
def cluster_on_this_machine(workers: int) -> Iterator[str]:
    """Start a cluster in processes of its own, which end with this one; yield its address."""
    with (
        tempfile.TemporaryDirectory(prefix="candlewick-", ignore_cleanup_errors=True) as folder,
        subprocess.Popen(  # noqa: S603 (this very interpreter)
            [sys.executable, "-P", "-c", _LOCAL_CLUSTER, str(workers), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what matters to us reaches us as an exception
            text=True,
        ) as process,
    ):
        try:
            yield _first_line(process)
        finally:
            _end(process)


def _first_line(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline().strip() if process.stdout else ""
    if not line:
        raise ClusterError(
            "no dask cluster starts on this machine: python -c 'import distributed as d; "
            "d.LocalCluster()' says why"
        )
    return line


def _end(process: subprocess.Popen[str]) -> None:
    if process.stdin:
        process.stdin.close()
    try:
        process.wait(_CLOSING_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
