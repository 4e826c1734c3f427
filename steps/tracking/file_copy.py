"""Artifacts from a folder to where MLflow shall keep them from now on, and the proof of it."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from steps.tracking.reachable import local_folder
from steps.tracking.stores import TrackingError, first_line

_AT_ONCE: Final = 8  # uploads: they wait more than they work


@dataclass(frozen=True)
class CopiedFile:
    """A file whose SHA-256 is the same at both ends.

    Attributes
    ----------
    size : int
        Bytes.
    was_there : bool
        It had been copied before.
    """

    size: int
    was_there: bool


def files_in(folder: Path) -> list[Path]:
    """Return all files of a folder, links followed; none where there is no folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def copy_folder(folder: Path, uri: str) -> Iterator[CopiedFile]:
    """Copy a folder's files, unless they are there already, and read them back to compare.

    Parameters
    ----------
    folder : Path
    uri : str
        Where MLflow can write: ``s3://…``, ``gs://…``, a folder.

    Yields
    ------
    CopiedFile
        One by one.

    Raises
    ------
    TrackingError
        If a file cannot be written or comes back different, or if there are files that the folder
        does not have.
    """
    names = [file.relative_to(folder).as_posix() for file in files_in(folder)]
    try:
        store = get_artifact_repository(uri)
        there = set(_names_in(store))
        _check_no_strangers(there - set(names), folder, uri)
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            yield from threads.map(lambda name: _copy(folder, name, store, name in there), names)
    except TrackingError:
        raise
    except Exception as error:  # every store's client has its own
        raise TrackingError(
            f"{folder} cannot be copied to {uri} ({type(error).__name__}: {first_line(error)}): "
            "repeat the move when that is mended; what has been copied is not copied again"
        ) from error


def _check_no_strangers(names: set[str], folder: Path, uri: str) -> None:
    if names:
        raise TrackingError(
            f"{uri} has a file that {folder} does not have, {min(names)}: remove it, or move to "
            "another place"
        )


def _copy(folder: Path, name: str, store: Any, was_there: bool) -> CopiedFile:
    file = folder / name
    expected = sha256_of(file)
    if was_there and _stored_sha256(store, name) == expected:
        return CopiedFile(file.stat().st_size, was_there=True)
    above = Path(name).parent.as_posix()
    store.log_artifact(str(file), None if above == "." else above)
    if (found := _stored_sha256(store, name)) != expected:
        raise TrackingError(
            f"{file} has SHA-256 {expected}, and came back from {store.artifact_uri} with {found}: "
            "repeat the move, when nobody writes to the old store any more"
        )
    return CopiedFile(file.stat().st_size, was_there=False)


def _stored_sha256(store: Any, name: str) -> str:
    if (folder := local_folder(store.artifact_uri)) is not None:
        return sha256_of(folder / name)  # MLflow takes a # in a name, and does not find it again
    with tempfile.TemporaryDirectory(prefix="candlewick-") as place:
        return sha256_of(Path(store.download_artifacts(name, dst_path=place)))


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _names_in(store: Any, path: str | None = None) -> Iterator[str]:
    """Yield the names of all files in an artifact store."""
    for each in store.list_artifacts(path):
        if each.is_dir:
            yield from _names_in(store, each.path)
        else:
            yield each.path
