"""Downloaded snapshots are kept, proven every time, bounded, and never half there."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
from services.tracking_server import TrackingServer
from tracking.test_snapshot_store import assert_equal, make

from steps.market.snapshot import SnapshotError
from steps.tracking.checksums import DamagedError, seal
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.snapshot_cache import cache_folder, cached, kept
from steps.tracking.snapshot_store import find_by_key, load_snapshot, open_snapshot, save_snapshot

ROOT = Path(__file__).resolve().parents[2]


class Store:
    """A sealed folder somewhere else, and how often it was fetched."""

    def __init__(self, folder: Path, content: bytes = b"features") -> None:
        self.folder = folder
        (folder / "code").mkdir(parents=True)
        (folder / "table").write_bytes(content)
        (folder / "code" / "a.py").write_text("pass")
        self.seal = seal(folder)
        self.fetched = 0

    def fetch(self, place: str) -> Path:
        self.fetched += 1
        return Path(shutil.copytree(self.folder, Path(place, "snapshot")))

    def read(self) -> bytes:
        with cached(self.seal, self.fetch) as folder:
            return (folder / "table").read_bytes()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def entries() -> set[str]:
    return {each.name for each in cache_folder().iterdir() if each.is_dir()}


def test_it_is_fetched_once(store: Store) -> None:
    assert store.read() == store.read() == b"features"
    assert store.fetched == 1
    assert entries() == {store.seal}
    assert cache_folder().stat().st_mode & 0o777 == 0o700
    with kept(store.seal, "code") as entry:
        assert entry == cache_folder() / store.seal
    with kept("0" * 64) as entry:
        assert entry is None


def test_a_damaged_entry_is_fetched_again(store: Store) -> None:
    store.read()
    (cache_folder() / store.seal / "table").write_bytes(b"features!")
    assert store.read() == b"features"
    assert store.fetched == 2
    assert store.read() == b"features"
    assert store.fetched == 2


def test_a_damaged_entry_that_somebody_reads_is_left_to_them(store: Store) -> None:
    with cached(store.seal, store.fetch) as folder:
        (folder / "table").write_bytes(b"features!")
        assert store.read() == b"features"
        assert (folder / "table").exists()
    assert store.read() == b"features"
    assert (cache_folder() / store.seal / "table").read_bytes() == b"features"


def test_what_was_damaged_in_the_store_is_not_kept(store: Store) -> None:
    (store.folder / "table").write_bytes(b"features!")
    with pytest.raises(DamagedError, match="table is damaged"):
        store.read()
    assert entries() == set()


def test_what_was_used_longest_ago_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANDLEWICK_CACHE_SIZE", "0.0000105")  # GB: room for three of them
    stores = [Store(tmp_path / name, name.encode() * 3000) for name in "abcd"]
    for number, store in enumerate(stores[:3]):
        store.read()
        os.utime(cache_folder() / f"{store.seal}.lock", (number, number))
    stores[0].read()
    stores[3].read()
    assert entries() == {stores[number].seal for number in (0, 2, 3)}
    with cached(stores[2].seal, stores[2].fetch):
        for number in (0, 2, 3):
            os.utime(cache_folder() / f"{stores[number].seal}.lock", (number, number))
        os.utime(cache_folder() / f"{stores[2].seal}.lock", (-1, -1))
        stores[1].read()  # the one that was used longest ago is in use
        assert entries() == {stores[number].seal for number in (1, 2, 3)}


def test_what_is_larger_than_the_cache_is_fetched_each_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in ("0.000000001", "0"):
        monkeypatch.setenv("CANDLEWICK_CACHE_SIZE", size)
        before = store.fetched
        assert store.read() == store.read() == b"features"
        assert store.fetched >= before + 2
    assert entries() == set()


def test_where_no_folder_can_be_made_nothing_is_kept(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CANDLEWICK_CACHE", str(tmp_path / "file"))
    assert store.read() == b"features"
    assert store.fetched == 1


def test_many_threads_fetch_it_once(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: store.read(), range(8)))
    assert found == [b"features"] * 8
    assert store.fetched == 1


def _read_elsewhere(folder: str, sealed: str) -> int:
    fetched = 0

    def fetch(place: str) -> Path:
        nonlocal fetched
        fetched += 1
        time.sleep(0.2)
        return Path(shutil.copytree(folder, Path(place, "snapshot")))

    with cached(sealed, fetch) as found:
        assert (found / "table").read_bytes() == b"features"
    return fetched


@pytest.mark.slow
def test_many_processes_fetch_it_once(store: Store) -> None:
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(_read_elsewhere, str(store.folder), store.seal) for _ in range(8)]
        assert sum(job.result() for job in jobs) == 1


@pytest.mark.slow
def test_a_killed_download_leaves_nothing(store: Store, tmp_path: Path) -> None:
    command = """if True:
        import sys, time
        from pathlib import Path
        from steps.tracking.snapshot_cache import cached
        def fetch(place):
            Path(place, "half").write_bytes(b"half of it")
            print("begun", flush=True)
            time.sleep(600)
        with cached(sys.argv[1], fetch):
            pass
    """
    with subprocess.Popen(
        [sys.executable, "-c", command, store.seal],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGKILL)
    assert len(entries()) == 1  # what it had begun
    assert store.read() == b"features"
    assert entries() == {store.seal}


# -- snapshots of a server -----------------------------------------------------------------------


@pytest.mark.slow
def test_training_again_downloads_nothing(
    server_on_sqlite: TrackingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = make(7)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server_on_sqlite.uri)
    with MLflowLogger("cached snapshots") as logger:
        stored = save_snapshot(logger, snapshot, {}, "cached")
    assert_equal(load_snapshot(stored), snapshot)
    assert entries() == {stored.seal}
    assert find_by_key(logger.client, logger.experiment_id, "cached") == stored
    artifacts = Path(server_on_sqlite.artifacts_destination)
    (place,) = artifacts.rglob(f"{logger.run_id}/artifacts/snapshot")

    kept_aside = Path(tempfile.mkdtemp())
    shutil.move(place / "features.parquet", kept_aside)
    assert_equal(load_snapshot(stored), snapshot)
    with open_snapshot(stored) as opened:
        assert opened.snapshot_id == snapshot.snapshot_id
    assert find_by_key(logger.client, logger.experiment_id, "cached") is None  # it is gone there
    (cache_folder() / str(stored.seal) / "features.parquet").unlink()
    with pytest.raises(SnapshotError, match=r"features\.parquet is missing"):
        load_snapshot(stored)

    shutil.move(kept_aside / "features.parquet", place)
    assert find_by_key(logger.client, logger.experiment_id, "cached") == stored
    monkeypatch.setenv("CANDLEWICK_CACHE_SIZE", "0")
    assert_equal(load_snapshot(stored), snapshot)


def test_a_snapshot_on_this_machine_is_not_kept_twice(database: Path) -> None:
    find: Callable[[], object] = lambda: find_by_key(logger.client, logger.experiment_id, "local")  # noqa: E731
    with MLflowLogger("local snapshots") as logger:
        stored = save_snapshot(logger, make(), {}, "local")
    load_snapshot(stored)
    assert find() == stored
    assert not cache_folder().exists()
    table = next(Path().rglob("features.parquet"))
    content = bytearray(table.read_bytes())
    content[100] ^= 1
    table.write_bytes(content)
    assert find() is None
