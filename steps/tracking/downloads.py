"""Artifacts, brought into a folder of ours: as files, and as nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import mlflow
from mlflow.artifacts import download_artifacts
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
    repository = get_artifact_repository(uri)
    while not isinstance(repository, LocalArtifactRepository) and hasattr(repository, "repo"):
        repository = repository.repo
    if isinstance(repository, LocalArtifactRepository):
        _refuse_links(Path(repository.artifact_dir))
    contact = contact_with(mlflow.get_tracking_uri())
    return Path(
        contact.patiently(lambda: download_artifacts(artifact_uri=uri, dst_path=folder), uri)
    )


def _refuse_links(place: Path) -> None:
    found = [place] if place.is_symlink() else []
    for inner, folders, files in os.walk(place):
        found += [
            Path(inner, name) for name in (*folders, *files) if Path(inner, name).is_symlink()
        ]
    if found:
        raise DamagedError(f"{found[0].name!r} is a link, expected a file or a folder")
