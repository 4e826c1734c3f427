"""Models to MLflow and back, in their libraries' own formats."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature

from steps.tracking.checksums import DamagedError
from steps.tracking.downloads import download
from steps.tracking.native_models import SKOPS_TRUSTED, read_native
from steps.tracking.price_model_store import data_of, is_price_model
from steps.tracking.requirements import pinned
from steps.tracking.sealed_models import ModelLog, inside, log_sealed, metadata_of, read_sealed
from steps.tracking.stores import TrackingError, first_line


def save_model(
    model: Any,
    *,
    run_id: str,
    name: str,
    model_type: str | None = None,
    pip_requirements: Sequence[str] | None = None,
    log: ModelLog = log_sealed,
    **details: Any,
) -> str:
    """Log a model to a run and return its URI.

    Parameters
    ----------
    model : xgboost.Booster, xgboost.XGBModel or scikit-learn estimator
    run_id, name : str
    model_type : str, optional
        Checked against the model; recorded in its metadata.
    pip_requirements : sequence of str, optional
        Default: the versions installed here. (MLflow's own way of finding them out takes seconds.)
    log : callable, optional
        What stores it.
    **details
        ``signature``, ``input_example``, ``metadata``: as in MLflow.

    Raises
    ------
    TypeError
        If the model is of neither library, holds parts of another, or contradicts `model_type`.
    """
    flavor = flavor_of(model)
    if (model_type == "xgboost") != (flavor == "xgboost") and model_type is not None:
        raise TypeError(
            f"model_type is {model_type!r}, but the model is a {type(model).__module__}."
            f"{type(model).__name__}"
        )
    metadata = {**(details.pop("metadata", None) or {}), "model_type": model_type or flavor}
    common: dict[str, Any] = {
        "run_id": run_id,
        "name": name,
        "pip_requirements": list(pip_requirements or pinned(flavor)),
        "metadata": metadata,
        **details,
    }
    if flavor == "xgboost":
        import mlflow.xgboost

        return log(mlflow.xgboost, xgb_model=model, **common)
    import mlflow.sklearn

    predict_fn = "predict_proba" if hasattr(model, "predict_proba") else "predict"
    example = common.get("input_example")
    if example is not None and common.get("signature") is None:
        # MLflow would infer it from `predict`, whatever function it is told to serve.
        common["signature"] = infer_signature(example, getattr(model, predict_fn)(example))
    try:
        return log(
            mlflow.sklearn,
            sk_model=model,
            serialization_format="skops",
            skops_trusted_types=list(SKOPS_TRUSTED),
            pyfunc_predict_fn=predict_fn,
            **common,
        )
    except MlflowException as error:
        foreign = str(error).partition("Untrusted types found in the file: ")[2]
        if not foreign:
            raise
        raise TypeError(
            f"the model holds {foreign.rstrip('.')}: log_model stores what scikit-learn itself is "
            "made of, since anything else could not be loaded without trusting it"
        ) from error


def flavor_of(model: Any) -> str:
    """Return the library a model is of: ``xgboost`` or ``sklearn``.

    Raises
    ------
    TypeError
        If it is of neither.
    """
    bases = {base.__module__.split(".")[0] for base in type(model).__mro__}
    for flavor in ("xgboost", "sklearn"):  # an XGBClassifier is of both: the native one first
        if flavor in bases:
            return flavor
    raise TypeError(
        "log_model stores xgboost and scikit-learn models, found a "
        f"{type(model).__module__}.{type(model).__name__}"
    )


def load_model(uri: str) -> tuple[Any, Mapping[str, Any]]:
    """Load a model and its metadata.

    All of its files are checked first. Only types on Candlewick's own list are loaded, not those
    the stored model asks to be trusted.

    Returns
    -------
    tuple
        The Booster, XGBModel or estimator, and the metadata it was stored with.

    Raises
    ------
    TrackingError
        If the model is gone, damaged, unreadable or holds a type that is not trusted.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="candlewick-") as folder:
            return _read(download(uri, folder))
    except DamagedError as error:
        raise TrackingError(f"model {uri} is not used: {error}. Train again") from error
    except Exception as error:  # each library has its own
        raise TrackingError(
            f"model {uri} cannot be loaded ({type(error).__name__}: {first_line(error)}): "
            "train again"
        ) from error


def _read(folder: Path) -> tuple[Any, Mapping[str, Any]]:
    description = read_sealed(folder)
    if is_price_model(description):
        model = read_native(data_of(folder, description))
    elif "xgboost" in description.flavors:
        import mlflow.xgboost

        _check_xgboost(folder, description.flavors["xgboost"])
        model = mlflow.xgboost.load_model(str(folder))
    else:
        import skops.io

        file = inside(folder, description.flavors["sklearn"]["pickled_model"])
        model = skops.io.load(file, trusted=list(SKOPS_TRUSTED))
    return model, metadata_of(description)


def _check_xgboost(folder: Path, flavor: Mapping[str, Any]) -> None:
    """Refuse a description that has MLflow read or import something else than xgboost's."""
    model_class = str(flavor.get("model_class"))
    if not model_class.startswith("xgboost.") or flavor.get("code"):
        raise TypeError(f"it asks for {model_class} and code {flavor.get('code')!r} to be trusted")
    inside(folder, flavor.get("data"))
