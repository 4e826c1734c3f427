"""Models that are sealed before they are stored, and checked before anything reads them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import mlflow
from mlflow.entities import LoggedModelStatus
from mlflow.models import Model
from mlflow.models.model import MLMODEL_FILE_NAME

from steps.tracking.checksums import SUMS, DamagedError, check, seal

_SEALED: Final = "sealed"
"""The entry of a model's metadata that says that there are checksums."""

_IDENTITY_TAG: Final = "candlewick.identity"

_LARGEST_DESCRIPTION: Final = 16 * 2**20
"""Bytes of an ``MLmodel``; it is some kilobytes of YAML."""


ModelLog = Callable[..., str]
"""Stores a model: takes a flavor, and by name what it is made of; returns the URI."""


class SealedFlavor:
    """One of MLflow's flavors, whose models get checksums of all their files.

    They are made of what is uploaded, so what gets lost on the way shows, too.

    Parameters
    ----------
    flavor : module
        Such as ``mlflow.xgboost``.
    """

    def __init__(self, flavor: Any) -> None:
        self._flavor = flavor
        self.__name__: str = flavor.__name__

    def save_model(self, path: str, mlflow_model: Model, **kwargs: Any) -> None:
        """Write a model into a folder; `Model.log` calls it, and uploads the folder."""
        # MLflow would load the model once more and might then describe it anew, behind the seal.
        kwargs.pop("validate_serving_input")
        mlflow_model.metadata = {**(mlflow_model.metadata or {}), _SEALED: SUMS}
        self._flavor.save_model(path=path, mlflow_model=mlflow_model, **kwargs)
        drop_compiled(Path(path))
        seal(Path(path))


class _SavedFlavor:
    """A model that :func:`save_sealed` has written, as a flavor that writes it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._saved = Model.load(str(folder))
        known = [name for name in ("xgboost", "sklearn") if name in self._saved.flavors]
        self.__name__ = f"mlflow.{(*known, 'pyfunc')[0]}"

    def save_model(self, path: str, mlflow_model: Model, **_: Any) -> None:
        """Write the model into a folder, with the identity that it has now."""
        shutil.copytree(self._folder, path)
        for name in ("flavors", "signature", "saved_input_example_info", "metadata"):
            setattr(mlflow_model, name, getattr(self._saved, name))
        mlflow_model.save(str(Path(path, MLMODEL_FILE_NAME)))
        seal(Path(path))


def log_sealed(
    flavor: Any, *, run_id: str, token: str | None = None, tried: bool = False, **details: Any
) -> str:
    """Log a model with checksums and return its URI.

    Parameters
    ----------
    flavor : module
    run_id : str
    token : str, optional
        Something that no other model has, to find this one again.
    tried : bool
        It may be stored already, by the same token; then it is not stored again.
    **details
        What `Model.log` takes.
    """
    return _log(SealedFlavor(flavor), run_id=run_id, token=token, tried=tried, **details)


def save_sealed(
    flavor: Any, folder: Path, *, metadata: Mapping[str, Any] | None = None, **details: Any
) -> None:
    """Write what :func:`log_sealed` would log into a new folder, for :func:`log_saved`."""
    for known_later in ("run_id", "name"):
        details.pop(known_later, None)
    SealedFlavor(flavor).save_model(
        str(folder), Model(metadata=metadata), validate_serving_input=False, **details
    )


def log_saved(folder: Path, *, run_id: str, name: str, token: str, tried: bool) -> str:
    """Log a model that :func:`save_sealed` has written, and return its URI."""
    return _log(_SavedFlavor(folder), run_id=run_id, name=name, token=token, tried=tried)


def _log(flavor: Any, *, run_id: str, token: str | None, tried: bool, **details: Any) -> str:
    if tried and token and (found := _find(run_id, token)):
        return found
    stored = Model.log(
        artifact_path=None,  # the older name of `name`; the method asks for it all the same
        flavor=flavor,
        run_id=run_id,
        tags={_IDENTITY_TAG: token} if token else None,
        validate_serving_input=False,
        **details,
    )
    return str(stored.model_uri)


def _find(run_id: str, token: str) -> str | None:
    """Return the URI of the model with a token; one that was stored half is deleted."""
    client = mlflow.MlflowClient()
    experiment_id = client.get_run(run_id).info.experiment_id
    for model in client.search_logged_models(
        experiment_ids=[experiment_id], filter_string=f"tags.`{_IDENTITY_TAG}` = '{token}'"
    ):
        if model.status == LoggedModelStatus.READY:
            return str(model.model_uri)
        client.delete_logged_model(model.model_id)
    return None


def read_sealed(folder: Path) -> Model:
    """Check a downloaded model and return its description. Nothing of it is run.

    Models of before there were checksums have none and are taken as they are.

    Raises
    ------
    DamagedError
        If a file differs, is missing or was added.
    """
    drop_compiled(folder)
    check(folder)
    if (folder / MLMODEL_FILE_NAME).stat().st_size > _LARGEST_DESCRIPTION:
        raise DamagedError(f"{MLMODEL_FILE_NAME} is larger than {_LARGEST_DESCRIPTION:,} bytes")
    description = Model.load(str(folder))
    if _SEALED in (description.metadata or {}) and not (folder / SUMS).exists():
        raise DamagedError(f"{SUMS} is missing")
    return description


def inside(folder: Path, path: Any) -> Path:
    """Return the file or folder that a model's description names, which has to be the model's own.

    Raises
    ------
    DamagedError
        If it leads elsewhere.
    """
    named = (folder / str(path)).resolve()
    if not named.is_relative_to(folder.resolve()):
        raise DamagedError(f"{MLMODEL_FILE_NAME} asks for {path!r}, which is not in the model")
    return named


def metadata_of(description: Model) -> Mapping[str, Any]:
    """Return what a model was stored with, but for what is said of the seal."""
    metadata = dict(description.metadata or {})
    metadata.pop(_SEALED, None)
    return metadata


def drop_compiled(folder: Path) -> None:
    """Delete what Python has compiled, which has no checksum and would be run."""
    for compiled in folder.rglob("__pycache__"):
        shutil.rmtree(compiled)
