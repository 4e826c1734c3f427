"""engine=dask: the very same snapshot from several processes, also when one of them is killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from steps.engines import ClusterError
from steps.engines.dask import Cluster, open_cluster
from steps.entry_point import open_step
from steps.featurize import FeaturizeParams, featurize
from steps.market.build import build_part
from steps.market.features import get_feature_set
from steps.market.labels import label_definition
from steps.market.price_stream import open_price_stream
from steps.market.prices import open_prices
from steps.market.snapshot import join_parts, manifest_id

pytestmark = pytest.mark.slow


def test_without_dask_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match="not installed: make dask"), open_cluster("none", 1):
        pass


def test_a_scheduler_that_does_not_answer_is_named() -> None:
    address = "tcp://127.0.0.1:9"  # where no one listens
    with pytest.raises(ClusterError, match=f"answers at {address}"), open_cluster(address, 1):
        pass


@pytest.mark.parametrize("address", ["ftp://127.0.0.1:9", "tls://127.0.0.1:9"])
def test_an_address_of_another_kind_is_refused_in_one_line(address: str) -> None:
    with pytest.raises(ClusterError, match="cannot connect to") as raised, open_cluster(address, 1):
        pass
    assert "\n" not in str(raised.value)


def test_no_other_step_pays_for_dask() -> None:
    command = "import sys, steps.featurize; sys.exit('dask' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", command], cwd=root, check=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with open_cluster("none", 2) as opened:
        yield opened


def snapshot_id(cluster: Cluster | None, rows: int) -> str:
    """Return the ID of the sample's features."""
    core = get_feature_set("core")
    build = partial(build_part, feature_set="core", horizon=1)
    parts = []
    with open_prices("sample") as files, open_price_stream(files) as prices:
        pieces = [piece.read() for piece in prices.pieces(rows, min_rows=core.min_rows)]
    for _, part in cluster.map_in_order(build, pieces) if cluster else map(build, pieces):
        parts.append(part)
    definition = label_definition(1)
    return manifest_id(
        join_parts(parts, feature_set=core.name, version=core.version, label=definition)
    )


@pytest.mark.parametrize("rows", [1, 4_000, 100_000])
def test_the_snapshot_is_the_same_for_every_size_of_piece(cluster: Cluster, rows: int) -> None:
    assert snapshot_id(cluster, rows) == snapshot_id(None, 100_000)


def test_a_killed_worker_does_not_lose_the_job(cluster: Cluster) -> None:
    build = partial(build_part, feature_set="core", horizon=1)
    with open_prices("sample") as files, open_price_stream(files) as prices:
        pieces = [piece.read() for piece in prices.pieces(1)] * 10
    victim = None
    found = []
    for _, part in cluster.map_in_order(build, pieces):
        found.append(part)
        if victim is None:
            # One that has calls to make, which nobody else has the results of.
            busy = [worker for worker, calls in cluster.client.processing().items() if calls]
            if busy:
                victim = cluster.client.run(os.getpid, workers=busy[:1])[busy[0]]
                os.kill(victim, signal.SIGKILL)
    assert victim is not None
    assert found == [part for _, part in map(build, pieces)]


def test_featurize_on_a_scheduler_that_is_there(cluster: Cluster, database: Path) -> None:
    address = cluster.client.scheduler.address
    found = []
    for params in (FeaturizeParams(), FeaturizeParams(engine="dask", scheduler_address=address)):
        with open_step("featurize", params) as logger:
            found.append(featurize(params, logger).snapshot_id)
    assert found[0] == found[1]
