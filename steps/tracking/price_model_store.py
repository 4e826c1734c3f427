"""Models that take prices, to MLflow and back: an MLflow model that carries its own code."""

from __future__ import annotations

import atexit
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final, Protocol

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from steps.tracking.checksums import DamagedError
from steps.tracking.downloads import download
from steps.tracking.registry import RegisteredModel
from steps.tracking.requirements import constraints
from steps.tracking.sealed_models import ModelLog, inside, log_sealed, metadata_of, read_sealed
from steps.tracking.stores import TrackingError, first_line

_TAKES: Final = "takes"
"""The entry of a model's metadata that says what goes in."""

_LOADER: Final = ".serving.price_model"
"""The module that loads a model, in the package that it carries."""

_OUTPUTS: Final = {
    "date": DataType.string,
    "symbol": DataType.string,
    "probability": DataType.double,
    "direction": DataType.long,
    "horizon": DataType.long,
    "note": DataType.string,
}


class TakesPrices(Protocol):
    """What a loaded model of this kind can do; its class comes from the code it carries."""

    def forecast(
        self,
        prices: pd.DataFrame,
        *,
        every_date: bool = False,
        as_of: date | None = None,
        max_age: int | None = None,
    ) -> pd.DataFrame:
        """Forecast from checked prices: see `steps.serving.forecast.forecast`."""

    def features(self, prices: pd.DataFrame) -> pd.DataFrame:
        """Compute the features it learned from."""


@dataclass(frozen=True)
class PriceModelVersion:
    """A model that takes prices, loaded.

    Attributes
    ----------
    model : TakesPrices
    name : str
        ``stock_direction version 3``, or the model's ID where it was not asked for by a registered
        name.
    uri : str
        Its URI, with no alias in it.
    run_id : str or None
        The run that trained it.
    metadata : mapping
    """

    model: TakesPrices
    name: str
    uri: str
    run_id: str | None
    metadata: Mapping[str, Any]


def save_price_model(
    data: Path,
    code: Path,
    *,
    run_id: str,
    name: str,
    pip_requirements: list[str],
    params: Mapping[str, Any],
    input_example: pd.DataFrame,
    metadata: Mapping[str, Any],
    log: ModelLog = log_sealed,
) -> str:
    """Log a model that takes prices to a run and return its URI.

    Parameters
    ----------
    data : Path
        The folder its loader reads.
    code : Path
        The package it carries; its ``serving.price_model`` is the loader.
    run_id, name : str
    pip_requirements : list of str
        What it needs; what that brings along is pinned, too.
    params : mapping
        What may be asked beside the prices, with the defaults.
    input_example : DataFrame
        Raw prices.
    metadata : mapping
    log : callable, optional
        What stores it.
    """
    import mlflow.pyfunc  # costs time to import, and most steps do not need it

    # Without a schema of inputs, which MLflow would enforce: it drops columns that are not in it,
    # such as an "Adj Close", and prices would go unadjusted without a word; it refuses a wrong cell
    # without saying where; and it costs more time than features and forecasts together.
    signature = ModelSignature(
        outputs=Schema([ColSpec(kind, column) for column, kind in _OUTPUTS.items()]),
        params=ParamSchema([_param(param, default) for param, default in params.items()]),
    )
    with tempfile.TemporaryDirectory(prefix="candlewick-") as folder:
        limits = Path(folder, "constraints.txt")
        limits.write_text("\n".join(constraints(pip_requirements)) + "\n")
        with _quiet("mlflow.pyfunc"):  # it tells that it looks at the example
            return log(
                mlflow.pyfunc,
                run_id=run_id,
                name=name,
                loader_module=f"{code.name}{_LOADER}",
                data_path=str(data),
                code_paths=[str(code)],
                pip_requirements=[*pip_requirements, f"-c {limits}"],
                signature=signature,
                input_example=input_example,
                metadata={**metadata, _TAKES: "prices"},
            )


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Let a library's logger tell warnings only."""
    library = logging.getLogger(name)
    level = library.level
    library.setLevel(logging.WARNING)
    try:
        yield
    finally:
        library.setLevel(level)


def _param(name: str, default: Any) -> ParamSpec:
    kinds = {bool: DataType.boolean, int: DataType.long, str: DataType.string}
    return ParamSpec(name, kinds[type(default)], default)


def is_price_model(description: Model) -> bool:
    """Whether a model is one of this kind."""
    return (description.metadata or {}).get(_TAKES) == "prices"


def data_of(folder: Path, description: Model) -> Path:
    """Return the folder that a price model's loader reads, if all is as it was stored here.

    Raises
    ------
    DamagedError
        If the description asks for other code than the package that the model carries.
    """
    flavor = description.flavors["python_function"]
    loader = str(flavor.get("loader_module"))
    if not re.fullmatch(rf"candlewick_\w+{re.escape(_LOADER)}", loader):
        raise DamagedError(f"it asks for the loader {loader!r}, which no price model has")
    if flavor.get("code") != "code":
        raise DamagedError(f"it asks for code in {flavor.get('code')!r}, expected 'code'")
    return inside(folder, flavor.get("data"))


def load_price_model(client: mlflow.MlflowClient, uri: str) -> PriceModelVersion:
    """Load a model that takes prices, with the code it carries, once all its files are checked.

    Parameters
    ----------
    client : MlflowClient
    uri : str
        Any model URI: ``models:/name@alias``, ``models:/name/3`` or ``latest``, ``models:/m-…``,
        ``runs:/…/model``, or a folder.

    Raises
    ------
    TrackingError
        If there is none, it cannot be loaded, or it takes something else than prices.
    """
    import mlflow.pyfunc

    try:
        pinned_uri, name, run_id = _resolve(client, uri)
        folder = download(pinned_uri, _folder())
        description = read_sealed(folder)
        _check_takes_prices(description, uri)
        data_of(folder, description)
        loaded = mlflow.pyfunc.load_model(str(folder))
    except TrackingError:
        raise
    except DamagedError as error:
        raise TrackingError(f"model {uri} is not used: {error}") from error
    except Exception as error:  # MLflow's, the file system's, and those of the libraries
        raise TrackingError(
            f"model {uri} cannot be loaded ({type(error).__name__}: {first_line(error)})"
        ) from error
    return PriceModelVersion(
        model=loaded._model_impl,  # a developer-stable API: prices are checked once, not twice
        name=name or str(description.model_id),
        uri=pinned_uri,
        run_id=run_id or description.run_id,
        metadata=metadata_of(description),
    )


def _folder() -> str:
    """Return an empty folder that is there as long as this process: code is imported from it."""
    folder = tempfile.TemporaryDirectory(prefix="candlewick-", ignore_cleanup_errors=True)
    atexit.register(folder.cleanup)
    return folder.name


def _check_takes_prices(description: Model, uri: str) -> None:
    if not is_price_model(description):
        raise TrackingError(
            f"model {uri} takes features, not prices: train again, on a snapshot that featurize "
            "has made with this version of Candlewick"
        )


def _resolve(client: mlflow.MlflowClient, uri: str) -> tuple[str, str | None, str | None]:
    """Return a URI that will not come to mean another model, the version and the run behind it."""
    name, at, alias = uri.removeprefix("models:/").partition("@")
    try:
        if uri.startswith("models:/") and at:
            found = client.get_model_version_by_alias(name, alias)
        elif uri.startswith("models:/") and "/" in name:
            name, _, number = name.rpartition("/")
            if number == "latest":
                number = str(max(RegisteredModel(client, name).versions(), default=0))
            found = client.get_model_version(name, number)
        else:
            return uri, None, None
    except MlflowException as error:
        raise TrackingError(
            f"there is no model {uri} ({first_line(error)}): `mlflow run . -e promote` makes a "
            "champion, and a model that is none has a URI like models:/m-… or runs:/RUN_ID/model"
        ) from error
    told = f"{found.name} version {found.version}"
    return f"models:/{found.name}/{found.version}", told, found.run_id or None
