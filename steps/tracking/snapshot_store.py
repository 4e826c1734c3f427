"""Feature snapshots in MLflow: saved by featurize, found by ID or by content, verified on load."""

from __future__ import annotations

import difflib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import mlflow
import pandas as pd
import pyarrow as pa
from mlflow.entities import Dataset, DatasetInput, InputTag, Run, ViewType
from mlflow.exceptions import MlflowException

from steps.market.snapshot import (
    FeatureSnapshot,
    Manifest,
    SnapshotError,
    check_manifest,
    manifest_id,
)
from steps.tracking.checksums import SUMS, DamagedError, check, seal
from steps.tracking.downloads import check_sizes, download, local_place
from steps.tracking.full_disk import is_full
from steps.tracking.mlflow_logger import SNAPSHOT_TAG, MLflowLogger
from steps.tracking.snapshot_cache import cached, kept
from steps.tracking.snapshot_file import SnapshotFile
from steps.tracking.snapshot_table import TableWriter, from_arrow, read_table
from steps.tracking.stores import TrackingError, first_line

LATEST: Final = "latest"
KEY_TAG: Final = "feature_key"
SEAL_TAG: Final = "snapshot_seal"
"""The SHA-256 of the list of checksums; snapshots of before there was one have no such tag."""
_FOLDER: Final = "snapshot"
_TABLE: Final = "features.parquet"
_MANIFEST: Final = "manifest.json"
_PROVENANCE: Final = "provenance.json"
_CODE: Final = "code"
_LARGEST_JSON: Final = 64 * 2**20
"""Bytes; a manifest of a million symbols has a quarter of it."""


class SnapshotNotFoundError(TrackingError):
    """No snapshot with this ID, or none at all."""


@dataclass(frozen=True)
class StoredSnapshot:
    """Where a snapshot is: its ID and the featurize run that made it.

    Attributes
    ----------
    snapshot_id, run_id, artifact_uri : str
    seal : str or None
        What :func:`steps.tracking.checksums.seal` returned of its files, if it has one.
    """

    snapshot_id: str
    run_id: str
    artifact_uri: str
    seal: str | None = None


def save_snapshot(
    logger: MLflowLogger,
    snapshot: FeatureSnapshot,
    provenance: Mapping[str, Any],
    feature_key: str,
    code: Mapping[str, str] | None = None,
) -> StoredSnapshot:
    """Store a snapshot with the featurize run that made it.

    The tags by which others find it are set last, when all files are there: a run that dies half
    way leaves nothing that could be picked up.

    Parameters
    ----------
    logger : MLflowLogger
        The featurize run.
    snapshot : FeatureSnapshot
    provenance : mapping
        How it was made: prices, code, versions. Recorded beside the manifest, not part of the ID.
    feature_key : str
        Equal for equal inputs, code and versions. See :func:`find_by_key`.
    code : mapping of str to str, optional
        Names and contents of the files it was made with, for models to carry. Without it, models
        that learn from the snapshot take features, not prices.
    """
    with draft_snapshot() as draft:
        draft.write(snapshot.table)
        return draft.save(logger, snapshot.manifest, provenance, feature_key, code)


class SnapshotDraft:
    """A snapshot in the making: its table is written part by part, the rest when that is known.

    Parameters
    ----------
    folder : Path
        Where to write it, empty.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._table = TableWriter(folder / _TABLE)

    def write(self, table: pd.DataFrame | pa.Table) -> None:
        """Write the next rows of the table: some whole symbols, as pandas or Arrow has them."""
        self._table.write(table)

    def save(
        self,
        logger: MLflowLogger,
        manifest: Manifest,
        provenance: Mapping[str, Any],
        feature_key: str,
        code: Mapping[str, str] | None = None,
    ) -> StoredSnapshot:
        """Store what was written; the other parameters are those of :func:`save_snapshot`."""
        self._table.close()
        for name, content in ((_MANIFEST, manifest), (_PROVENANCE, dict(provenance))):
            (self._folder / name).write_text(json.dumps(content, indent=2) + "\n")
        (self._folder / _CODE).mkdir()
        for name, source in (code or {}).items():
            (self._folder / _CODE / name).write_bytes(source.encode())
        sealed = seal(self._folder)
        logger.log_artifacts(str(self._folder), _FOLDER)
        tags = {SNAPSHOT_TAG: manifest_id(manifest), KEY_TAG: feature_key, SEAL_TAG: sealed}
        logger.set_tags(**tags)
        return _stored(logger.client.get_run(logger.run_id))


@contextmanager
def draft_snapshot() -> Iterator[SnapshotDraft]:
    """Open a draft in a temporary folder, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="candlewick-") as folder:
        yield SnapshotDraft(Path(folder))


def resolve_snapshot(
    client: mlflow.MlflowClient, experiment_id: str | None, snapshot_id: str = LATEST
) -> StoredSnapshot:
    """Find a finished snapshot.

    Parameters
    ----------
    client : MlflowClient
    experiment_id : str or None
        Where to look; None: in all experiments. An ID is looked for in the others, too.
    snapshot_id : str
        ``latest``, or an ID.

    Raises
    ------
    SnapshotNotFoundError
        If there is none; the message names the nearest known ID.
    """
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
    here = everywhere if experiment_id is None else [experiment_id]
    if snapshot_id == LATEST:
        run = _newest(client, here, f"tags.{SNAPSHOT_TAG} LIKE '%'")
        if run is None:
            raise SnapshotNotFoundError(
                "there is no feature snapshot in this experiment yet: run `mlflow run . -e "
                "featurize` first"
            )
        return _stored(run)
    wanted = f"tags.{SNAPSHOT_TAG} = '{_checked(snapshot_id)}'"
    run = _newest(client, here, wanted) or _newest(client, everywhere, wanted)
    if run is None:
        raise SnapshotNotFoundError(_unknown(client, everywhere, snapshot_id))
    return _stored(run)


def find_by_key(
    client: mlflow.MlflowClient, experiment_id: str, feature_key: str
) -> StoredSnapshot | None:
    """Return the newest snapshot made from the same content, if it is there and verifies."""
    run = _newest(client, [experiment_id], f"tags.{KEY_TAG} = '{_checked(feature_key)}'")
    if run is None:
        return None
    stored = _stored(run)
    try:
        _verify(stored)
    except (SnapshotError, TrackingError):
        return None
    return stored


def _verify(stored: StoredSnapshot) -> None:
    """Make sure that a snapshot is still stored as it was, by every byte of it.

    Of one that this machine has at hand, what is in the store is but listed.
    """
    place = local_place(stored.artifact_uri)
    if stored.seal is None:
        load_snapshot(stored)
    elif place is not None:
        with _told_if_damaged(stored):
            _read_manifest(check(place, expected=stored.seal), stored)
    else:
        with _at_hand(stored) as path, _told_if_damaged(stored):
            check_sizes(stored.artifact_uri, path)
            _read_manifest(path, stored)


def load_snapshot(stored: StoredSnapshot) -> FeatureSnapshot:
    """Load a snapshot and hash all of it again before anybody uses it.

    Raises
    ------
    SnapshotError
        If a file, the table or the manifest is not what was stored.
    TrackingError
        If the artifact is gone or unreadable.
    """
    with _at_hand(stored) as path:
        manifest = _read_manifest(path, stored)
        with _told_if_unreadable(stored):
            table = from_arrow(read_table(path / _TABLE, manifest))
    snapshot = FeatureSnapshot(table, manifest)
    snapshot.verify()
    return snapshot


@contextmanager
def open_snapshot(stored: StoredSnapshot) -> Iterator[SnapshotFile]:
    """Open a snapshot that may be larger than memory: its features stay in a file meanwhile.

    All of it is hashed again first, and the same is raised as by :func:`load_snapshot`.
    """
    with _at_hand(stored) as path:
        manifest = _read_manifest(path, stored)
        with _told_if_unreadable(stored):
            snapshot = SnapshotFile(path / _TABLE, manifest)
        yield snapshot


def _read_manifest(path: Path, stored: StoredSnapshot) -> Manifest:
    try:
        manifest = _read_json(path / _MANIFEST)
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(stored, error) from error
    if manifest_id(manifest) != stored.snapshot_id:
        raise SnapshotError(
            f"the manifest in run {stored.run_id} hashes to {manifest_id(manifest)}, expected "
            f"{stored.snapshot_id}: it was changed after it was written; run featurize again"
        )
    check_manifest(manifest)
    return dict(manifest)


@contextmanager
def _told_if_unreadable(stored: StoredSnapshot) -> Iterator[None]:
    try:
        yield
    except SnapshotError:
        raise
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise _unreadable(stored, error) from error


def load_provenance(stored: StoredSnapshot) -> dict[str, Any]:
    """Return how a snapshot was made.

    Raises
    ------
    SnapshotError
        If it is not what was stored.
    TrackingError
        If it is gone or unreadable.
    """
    with _at_hand(stored, _PROVENANCE) as path:
        try:
            return dict(_read_json(path))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise _unreadable(stored, error) from error


def load_code(stored: StoredSnapshot) -> dict[str, str]:
    """Return the code a snapshot was made with, by file name; of older snapshots, none.

    Raises
    ------
    SnapshotError
        If it is not what was stored.
    TrackingError
        If it should be there, and is not.
    """
    try:
        with _at_hand(stored, _CODE) as path:
            return {file.name: file.read_bytes().decode() for file in path.glob("*.py")}
    except TrackingError:
        if stored.seal:
            raise
        return {}


@contextmanager
def _at_hand(stored: StoredSnapshot, part: str = "") -> Iterator[Path]:
    """Have a snapshot at hand, or a part of it, after its checksums were compared."""
    with ExitStack() as held:
        with _told_if_damaged(stored):
            path = _find(stored, part, held)
        yield path


def _find(stored: StoredSnapshot, part: str, held: ExitStack) -> Path:
    uri = stored.artifact_uri
    if stored.seal and local_place(uri) is None:
        if not part:
            return held.enter_context(cached(stored.seal, partial(download, uri)))
        entry = held.enter_context(kept(stored.seal, part))
        if entry is not None:
            return entry / part
    folder = held.enter_context(tempfile.TemporaryDirectory(prefix="candlewick-"))
    if not part:
        return check(download(uri, folder), expected=stored.seal)
    if stored.seal:
        download(f"{uri}/{SUMS}", folder)
    path = download(f"{uri}/{part}", folder)
    check(Path(folder), expected=stored.seal, within=part)
    return path


@contextmanager
def _told_if_damaged(stored: StoredSnapshot) -> Iterator[None]:
    try:
        yield
    except DamagedError as error:
        raise SnapshotError(
            f"snapshot {stored.snapshot_id} of run {stored.run_id} is not used: {error}. Run "
            "featurize again"
        ) from error
    except (MlflowException, OSError) as error:
        raise _unreadable(stored, error) from error


def _unreadable(stored: StoredSnapshot, error: Exception) -> TrackingError:
    if is_full(error):
        return TrackingError(
            f"there is no room for snapshot {stored.snapshot_id} in {tempfile.gettempdir()}, where "
            "files are worked on: make some, or set TMPDIR to a folder on another disk"
        )
    return TrackingError(
        f"snapshot {stored.snapshot_id} of run {stored.run_id} cannot be read from "
        f"{stored.artifact_uri} ({type(error).__name__}: {first_line(error)}): its files are gone "
        "or damaged; run featurize again"
    )


def _read_json(file: Path) -> Any:
    size = file.stat().st_size
    if size > _LARGEST_JSON:
        raise ValueError(f"{file.name} has {size:,} bytes, expected {_LARGEST_JSON:,} at most")
    return json.loads(file.read_text())


def snapshot_dataset(stored: StoredSnapshot, manifest: Mapping[str, Any]) -> DatasetInput:
    """Describe a snapshot as MLflow dataset input: its digest is the snapshot ID."""
    dataset = Dataset(
        name="feature_snapshot",
        digest=stored.snapshot_id,
        source_type="run",
        source=json.dumps({"uri": f"runs:/{stored.run_id}/{_FOLDER}"}),
        profile=json.dumps(
            {
                key: manifest[key]
                for key in ("row_count", "feature_count", "first_date", "last_date")
            }
        ),
    )
    return DatasetInput(dataset, tags=[InputTag("mlflow.data.context", "features")])


def _newest(client: mlflow.MlflowClient, experiments: list[str], condition: str) -> Run | None:
    runs = client.search_runs(
        experiments,
        f"{condition} AND tags.{KEY_TAG} LIKE '%' AND attributes.status = 'FINISHED'",
        run_view_type=ViewType.ACTIVE_ONLY,
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return runs[0] if runs else None


def _stored(run: Run) -> StoredSnapshot:
    return snapshot_of(run.info.run_id, run.info.artifact_uri, run.data.tags)


def snapshot_of(run_id: str, artifact_uri: str, tags: Mapping[str, str]) -> StoredSnapshot:
    """Return the snapshot of a featurize run, from what is known of the run."""
    return StoredSnapshot(
        snapshot_id=tags[SNAPSHOT_TAG],
        run_id=run_id,
        artifact_uri=f"{artifact_uri}/{_FOLDER}",
        seal=tags.get(SEAL_TAG),
    )


def _checked(identifier: str) -> str:
    if not identifier.isalnum():
        raise SnapshotNotFoundError(
            f"{identifier!r} is no snapshot ID: expected 32 hexadecimal digits, or {LATEST!r}"
        )
    return identifier


def _unknown(client: mlflow.MlflowClient, experiments: list[str], snapshot_id: str) -> str:
    runs = client.search_runs(
        experiments, f"tags.{KEY_TAG} LIKE '%' AND attributes.status = 'FINISHED'"
    )
    known = sorted({run.data.tags[SNAPSHOT_TAG] for run in runs})
    near = difflib.get_close_matches(snapshot_id, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}? " if near else ""
    return (
        f"no feature snapshot {snapshot_id} ({len(known)} known): {hint}"
        f"{LATEST!r} takes the newest, and `mlflow run . -e featurize` makes one"
    )
