"""Prices in, feature snapshot out; and what must be equal for two snapshots to be equal."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from steps.market.bars import symbol_runs
from steps.market.feature_set import FeatureSet, compute_features
from steps.market.features import get_feature_set
from steps.market.labels import label_definition, label_direction
from steps.market.price_stream import PricePiece
from steps.market.snapshot import FeatureSnapshot, TablePart, describe_part, make_snapshot

_LIBRARIES: Final = ("numpy", "pandas", "pyarrow", "TA-Lib")


def build_snapshot(prices: pd.DataFrame, feature_set: FeatureSet, horizon: int) -> FeatureSnapshot:
    """Compute features and labels and take their snapshot.

    Parameters
    ----------
    prices : DataFrame, shape (n_rows, 7)
        As `load_prices` returns it: checked, sorted by symbol and date.
    feature_set : FeatureSet
    horizon : int
        Trading days the label looks ahead, at least 1.

    Returns
    -------
    FeatureSnapshot
        One row per symbol and date from the end of the longest look-back on, those whose label is
        not known yet included.

    Raises
    ------
    ValueError
        If the prices are unsorted, a feature is not finite or `horizon` is less than 1.
    """
    return make_snapshot(
        build_table(prices, feature_set, horizon),
        feature_set=feature_set.name,
        version=feature_set.version,
        label=label_definition(horizon),
    )


def build_table(prices: pd.DataFrame, feature_set: FeatureSet, horizon: int) -> pd.DataFrame:
    """Compute the features and labels of some whole symbols.

    Parameters
    ----------
    prices, feature_set, horizon
        As for `build_snapshot`.

    Returns
    -------
    DataFrame
        As `FeatureSnapshot.table`. Each row depends on its own symbol's prices alone: tables of
        other symbols may be made by others, and put under it.
    """
    table = compute_features(prices, feature_set)
    labels = label_direction(prices, horizon)
    starts, lengths = symbol_runs(prices)
    warm = np.arange(len(prices)) - np.repeat(starts, lengths) >= feature_set.lookback
    for name in ("direction", "label_known_at"):
        table[name] = labels[name].array[warm]
    return table


def build_part(
    prices: PricePiece | pd.DataFrame, *, feature_set: str, horizon: int
) -> tuple[pd.DataFrame, TablePart]:
    """Compute the features and labels of some whole symbols, and describe them.

    This is what several workers can do at the same time, each with other symbols.

    Parameters
    ----------
    prices : PricePiece or DataFrame
        Where the prices are, or the prices themselves.
    feature_set : str
        Its name.
    horizon : int

    Returns
    -------
    table : DataFrame
        As `build_table` returns it.
    part : TablePart
    """
    table = prices if isinstance(prices, pd.DataFrame) else prices.read()
    table = build_table(table, get_feature_set(feature_set), horizon)
    return table, describe_part(table)


def ingredients(prices_sha256: str, feature_set: FeatureSet, horizon: int) -> dict[str, Any]:
    """Return all that decides what a snapshot will hold.

    Parameters
    ----------
    prices_sha256 : str
        `PriceFiles.fingerprint` of the prices.
    feature_set : FeatureSet
    horizon : int

    Returns
    -------
    dict
        JSON-able: prices, feature set and version, horizon, a hash of this room's code, and the
        versions of Python and the libraries that compute.
    """
    return {
        "prices_sha256": prices_sha256,
        "feature_set": feature_set.name,
        "version": feature_set.version,
        "horizon": horizon,
        "code_sha256": hash_code(own_code()),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "python": ".".join(platform.python_version_tuple()[:2]),
    }


def feature_key(ingredients: dict[str, Any]) -> str:
    """Return the SHA-256 of the ingredients: snapshots with equal keys need not be made twice."""
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()


def own_code() -> dict[str, str]:
    """Return the code of this room, by file name: what snapshots are made with."""
    folder = Path(__file__).parent
    return {file.name: file.read_bytes().decode() for file in sorted(folder.glob("*.py"))}


def hash_code(files: Mapping[str, str]) -> str:
    """Return the SHA-256 of code, as `ingredients` gives it."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{files[name]}".encode())
    return digest.hexdigest()
