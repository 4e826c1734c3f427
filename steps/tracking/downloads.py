"""Artifacts, brought into a folder of ours: as files, and as nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import mlflow
from mlflow.artifacts import download_artifacts
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from steps.tracking.checksums import DamagedError
from steps.tracking.contact import contact_with


def download(uri: str, folder: str) -> Path:
    """Bring an artifact, a file or a folder of them, into a folder and return where it is.

    A store that went away is waited for.

    Raises
    ------
    DamagedError
        If it is in a folder that others may write to, and has links in it: MLflow would follow
        them, and hand out whatever this user can read.
    """
    place = local_place(uri)
    if place is not None:
        _refuse_links(place)
    contact = contact_with(mlflow.get_tracking_uri())
    return Path(
        contact.patiently(lambda: download_artifacts(artifact_uri=uri, dst_path=folder), uri)
    )


def check_sizes(uri: str, folder: Path) -> None:
    """Make sure that an artifact's store still lists every file of a folder, in its size.

    Raises
    ------
    DamagedError
        If it does not; the message names the first file.
    """
    stored = dict(_list(get_artifact_repository(uri), None))
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        name = file.relative_to(folder).as_posix()
        size = stored.get(name, -1)
        if size not in (None, file.stat().st_size):  # some stores do not say how large a file is
            raise DamagedError(f"{name} is not in the store as it was stored")


def _list(repository: ArtifactRepository, path: str | None) -> Iterator[tuple[str, int | None]]:
    for each in repository.list_artifacts(path):
        if each.is_dir:
            yield from _list(repository, each.path)
        else:
            yield each.path, each.file_size


def local_place(uri: str) -> Path | None:
    """Return where an artifact is on this machine; None if it is in another store."""
    repository = get_artifact_repository(uri)
    while not isinstance(repository, LocalArtifactRepository) and hasattr(repository, "repo"):
        repository = repository.repo
    local = isinstance(repository, LocalArtifactRepository)
    return Path(repository.artifact_dir) if local else None


def _refuse_links(place: Path) -> None:
    found = [place] if place.is_symlink() else []
    for inner, folders, files in os.walk(place):
        found += [
            Path(inner, name) for name in (*folders, *files) if Path(inner, name).is_symlink()
        ]
    if found:
        raise DamagedError(f"{found[0].name!r} is a link, expected a file or a folder")
