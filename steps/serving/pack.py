"""Packs a model with what it takes to ask it about prices."""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from steps.market.build import hash_code
from steps.market.features import get_feature_set
from steps.market.prices import SAMPLE, load_prices
from steps.market.snapshot import Snapshot, SnapshotError
from steps.serving.carried_code import carry
from steps.serving.forecast import Learned
from steps.serving.price_model import PARAMS, PriceModel
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.requirements import pinned
from steps.tracking.snapshot_store import StoredSnapshot, load_code, load_provenance

_EXAMPLE_SYMBOLS = ("AAPL", "MSFT")


class NoPriceModelError(ValueError):
    """No model that takes prices can be made of a snapshot; the message says why."""


def read_code(stored: StoredSnapshot) -> dict[str, str]:
    """Return the code a snapshot was made with, by file name; of older snapshots, none.

    Raises
    ------
    SnapshotError
        If it is not what the snapshot was made with.
    """
    code = load_code(stored)
    if code and (found := hash_code(code)) != (expected := load_provenance(stored)["code_sha256"]):
        raise SnapshotError(
            f"the code stored with snapshot {stored.snapshot_id} hashes to {found}, it "
            f"was made with {expected}: it was changed after it was written; run featurize again"
        )
    return code


def log_price_model(
    model: Any,
    snapshot: Snapshot,
    stored: StoredSnapshot,
    metadata: Mapping[str, Any],
    logger: MLflowLogger,
    code: Mapping[str, str] | None = None,
) -> str:
    """Store a model that takes prices, with the very code its snapshot was made with.

    Parameters
    ----------
    model : xgboost.Booster or scikit-learn classifier
    snapshot : Snapshot
        What it learned from.
    stored : StoredSnapshot
    metadata : mapping
        Goes with the model; has ``best_threshold`` and ``model_type``.
    logger : MLflowLogger
    code : mapping of str to str, optional
        What :func:`read_code` returned; default: it is read now.

    Returns
    -------
    str
        The model URI.

    Raises
    ------
    NoPriceModelError
        If there is none to be made of the snapshot.
    SnapshotError
        If the code with the snapshot is not what it was made with.
    """
    code = read_code(stored) if code is None else code
    if not code:
        raise NoPriceModelError("its snapshot came without the code that made it")
    manifest = snapshot.manifest
    learned = Learned(
        feature_snapshot_id=stored.snapshot_id,
        feature_set=manifest["feature_set"],
        feature_set_version=manifest["version"],
        feature_names=tuple(snapshot.feature_names),
        symbols=tuple(manifest["symbols"]),
        horizon=snapshot.horizon,
        best_threshold=metadata["best_threshold"],
        model_type=metadata["model_type"],
    )
    with tempfile.TemporaryDirectory(prefix="candlewick-") as folder:
        data = Path(folder, "data")
        data.mkdir()
        PriceModel(model, learned).save(data)
        package = carry("serving/price_model.py", code).write(Path(folder))
        example = example_prices(get_feature_set(learned.feature_set).min_rows)
        _check_works(package, data, example)
        return logger.log_price_model(
            data,
            package,
            pip_requirements=pinned(
                "xgboost" if learned.model_type == "xgboost" else "sklearn", takes_prices=True
            ),
            params=PARAMS,
            input_example=example,
            metadata=metadata,
        )


def _check_works(package: Path, data: Path, example: pd.DataFrame) -> None:
    """Ask the model as it will be loaded: the code of an old snapshot may not fit today's."""
    sys.path.insert(0, str(package.parent))
    try:
        loader = importlib.import_module(f"{package.name}.serving.price_model")
        loader.PriceModel.load(data).predict(example)
    except Exception as error:  # whatever it is that does not fit
        raise NoPriceModelError(
            "the code stored with its snapshot does not work with the rest of this version "
            f"({type(error).__name__}: {error})"
        ) from error
    finally:
        sys.path.remove(str(package.parent))


def example_prices(rows: int) -> pd.DataFrame:
    """Return the newest prices of two symbols of the sample, as one would send them."""
    table = load_prices(SAMPLE).table
    some = table[table["symbol"].isin(_EXAMPLE_SYMBOLS)].groupby("symbol").tail(rows)
    return some.assign(date=some["date"].dt.strftime("%Y-%m-%d")).reset_index(drop=True)
