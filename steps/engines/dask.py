"""Work on the workers of a dask cluster."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import pickle
import tempfile
import time
import uuid
import warnings
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from steps.engines import ClusterError
from steps.engines.local import usable_cores
from steps.engines.local_cluster import cluster_on_this_machine
from steps.engines.worker_code import AsIs, call_there, packed_code, versions_here

if TYPE_CHECKING:
    from distributed import Client, Future

_LIBRARIES: Final = (
    *("xgboost", "pandas", "numpy", "pyarrow", "TA-Lib"),
    *("dask", "distributed", "cloudpickle"),
)
_TRACKER_LIBRARIES: Final = ("xgboost", "pandas", "pyarrow")
"""What `xgboost.dask`, which starts a part of itself on the scheduler, imports there."""
_ANSWER_SECONDS: Final = 5
_WORKER_SECONDS: Final = 60
_LOOK_SECONDS: Final = 0.5
Item = TypeVar("Item")
Result = TypeVar("Result")


class Cluster:
    """Workers to give work to, for as long as `open_cluster` is open.

    Attributes
    ----------
    client : distributed.Client
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._archive = ""

    def workers(self) -> list[str]:
        """Return the addresses of the workers, by name; wait for one where there is none.

        Raises
        ------
        ClusterError
            If none comes.
        """
        there: Mapping[str, Any] = {}
        while not there:
            try:
                self.client.wait_for_workers(1, timeout=_WORKER_SECONDS)
            except TimeoutError:
                raise ClusterError(
                    f"the scheduler at {_address(self.client)} has had no worker for "
                    f"{_WORKER_SECONDS} seconds: start some (dask worker ADDRESS --nthreads 1), "
                    "then try again"
                ) from None
            there = self._there()
        return sorted(there, key=lambda address: str(there[address]["name"]))

    def _there(self) -> Mapping[str, Any]:
        # Of a client that has lost its scheduler, this is empty.
        found: Mapping[str, Any] = self.client.scheduler_info(n_workers=-1).get("workers", {})
        return found

    def lost(self, workers: Sequence[str]) -> set[str]:
        """Return which of these workers are gone, giving the scheduler some seconds to notice.

        Where the scheduler itself is gone, they all are.
        """
        gone: set[str] = set()
        until = time.monotonic() + _ANSWER_SECONDS
        while not gone and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)
            try:
                gone = set(workers).difference(self._there())
            except OSError:
                return set(workers)
        return gone

    def wait_for(self, job: Callable[[], Awaitable[Result]], workers: Sequence[str]) -> Result:
        """Wait for a job on the client's loop, but not for workers that will not come back.

        Raises
        ------
        ClusterError
            If the job goes on without one of the workers that it needs.
        """

        async def attend() -> Result:
            task = asyncio.ensure_future(job())
            try:
                while not (await asyncio.wait([task], timeout=_WORKER_SECONDS))[0]:
                    there = (await self.client.scheduler.identity())["workers"]
                    if not set(workers) <= set(there):
                        raise ClusterError("workers were lost, and the work goes on without them")
                return task.result()
            finally:
                task.cancel()

        found: Result = self.client.sync(attend)
        return found

    def check_scheduler(self) -> None:
        """Make sure that XGBoost can bring the workers together on the scheduler.

        Raises
        ------
        ClusterError
            If it lacks what that takes.
        """
        libraries = list(_TRACKER_LIBRARIES)
        there = self.client.run_on_scheduler(AsIs(versions_here), libraries)
        odd = _differences(there, libraries)
        if odd:
            raise ClusterError(
                f"the scheduler has {odd}, where XGBoost brings the workers together: install "
                "requirements.lock there"
            )

    def map_in_order(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Result]:
        """Call a function of this package with every item, and yield the results in order.

        An item is asked for when a worker is about to need it, and travels with the call: where a
        worker is lost, the scheduler gives its calls to another.

        Parameters
        ----------
        function : callable
            Pure, and importable by name; the workers take it from this very checkout.
        items : iterable

        Raises
        ------
        ClusterError
            If there are no workers any more, or one call has cost several of them.
        """
        self._send_code()
        task = AsIs(call_there), self._archive, pickle.dumps(function)
        waiting: deque[Future] = deque()
        try:
            for item in items:
                if len(waiting) >= 2 * max(1, sum(self.client.nthreads().values())):
                    yield self._result(waiting.popleft())
                key = f"candlewick-{uuid.uuid4().hex}"
                waiting.append(self.client.submit(*task, item, key=key, pure=False))
            while waiting:
                yield self._result(waiting.popleft())
        finally:
            self.client.cancel(list(waiting), reason="no longer needed")

    def _result(self, future: Future) -> Any:
        from distributed import CancelledError, KilledWorker

        try:
            while True:
                try:
                    return future.result(timeout=_WORKER_SECONDS)
                except TimeoutError:
                    if future.done():
                        raise
                    self.workers()  # somebody is on it, or nobody will ever be
        except KilledWorker as error:
            raise ClusterError(
                "several workers were lost, one after the other, over the same work: memory may be "
                "short there (dask worker --memory-limit)"
            ) from error
        except CancelledError as error:
            raise ClusterError(
                "the scheduler went away, or gave the work up: see its log, then try again"
            ) from error

    def _send_code(self) -> None:
        """Give the workers, also those that come later, the code of this checkout."""
        if self._archive:
            return
        packed = packed_code()
        name = f"candlewick-{hashlib.sha256(packed).hexdigest()[:16]}.zip"
        with tempfile.TemporaryDirectory(prefix="candlewick-") as folder:
            path = Path(folder, name)
            path.write_bytes(packed)
            self.client.upload_file(str(path), load=False)
        self._archive = name


@contextmanager
def open_cluster(scheduler_address: str, n_jobs: int) -> Iterator[Cluster]:
    """Connect to a scheduler, or start one with workers on this machine, closed at the end.

    Parameters
    ----------
    scheduler_address : str
        ``tcp://…`` or ``tls://…``; 'none': on this machine. Certificates for TLS are those of
        dask's own configuration.
    n_jobs : int
        Workers on this machine, a process and a thread each; 0: one for each core.

    Yields
    ------
    Cluster

    Raises
    ------
    ClusterError
        If dask is not installed, nothing answers, there is no worker, or one has other versions
        of what decides a result.
    """
    try:
        import dask
        import distributed
    except ImportError:
        raise ClusterError(
            "engine=dask needs dask, which is not installed: make dask, or pip install -r "
            "steps/engines/requirements-dask.lock"
        ) from None
    with ExitStack() as until_closed:
        # What goes wrong there is said here, in one line; what mends itself is nobody's business.
        names = ("distributed", "distributed.client", "xgboost.dask", "[xgboost.dask]")
        until_closed.enter_context(_quiet(*names))
        # Data goes with the calls on purpose: see `map_in_order`.
        limit = {"distributed.admin.large-graph-warning-threshold": "1TB"}
        until_closed.enter_context(dask.config.set(limit))
        if scheduler_address == "none":
            local = cluster_on_this_machine(n_jobs or usable_cores())
            scheduler_address = until_closed.enter_context(local)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", distributed.versions.VersionMismatchWarning)
                client = distributed.Client(
                    scheduler_address, timeout=_ANSWER_SECONDS, set_as_default=False
                )
        except OSError as error:
            raise ClusterError(
                f"no dask scheduler answers at {scheduler_address} within {_ANSWER_SECONDS} "
                "seconds: is it running, and reachable from here?"
            ) from error
        except (ValueError, TypeError, RuntimeError) as error:
            raise ClusterError(
                f"cannot connect to scheduler_address={scheduler_address}: "
                f"{str(error).splitlines()[0]} — tcp://HOST:PORT is expected, or tls://HOST:PORT "
                "with certificates in dask's configuration (distributed.comm.tls)"
            ) from error
        until_closed.enter_context(client)
        _check_workers(client)
        yield Cluster(client)


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _address(client: Client) -> str:
    return str(client.scheduler.address) if client.scheduler else "?"


def _check_workers(client: Client) -> None:
    """Refuse a cluster without workers, or with some whose results could differ from ours."""
    with suppress(TimeoutError):  # some that were lost may be about to be back
        client.wait_for_workers(1, timeout=_ANSWER_SECONDS)
    there = client.run(AsIs(versions_here), list(_LIBRARIES), on_error="return")
    if not there:
        raise ClusterError(
            f"the scheduler at {_address(client)} has no worker: start some (dask worker ADDRESS "
            "--nthreads 1), then try again"
        )
    for worker, versions in there.items():
        if isinstance(versions, BaseException):
            raise ClusterError(f"worker {worker} does not answer: {versions}")
        odd = _differences(versions, list(_LIBRARIES))
        if odd:
            raise ClusterError(
                f"worker {worker} has {odd}, with which results could differ: install "
                "requirements.lock and steps/engines/requirements-dask.lock there"
            )


def _differences(there: Mapping[str, str], libraries: list[str]) -> str:
    here = versions_here(libraries)
    return ", ".join(f"{k} {there[k]} (here {here[k]})" for k in here if there[k] != here[k])
