"""Values as users hold them, turned into what MLflow stores."""

from __future__ import annotations

import json
import math
import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

PARAM_LIMIT: Final = 6000
"""MLflow's longest parameter value, in characters."""
NAME_LIMIT: Final = 250
"""MLflow's longest name of a parameter, metric or tag, in characters."""


def checked_name(kind: str, name: str) -> str:
    """Return a name after making sure that MLflow keeps it.

    One metric that MLflow refuses would take the whole request it is in along with it.

    Raises
    ------
    ValueError
        If it does not; the message says what a name may hold.
    """
    path = posixpath.normpath(name)
    fits = len(name) <= NAME_LIMIT and re.fullmatch(r"[/\w.\- :]+", name)
    if not fits or path != name or path == "." or path.startswith(("..", "/")):
        raise ValueError(
            f"{kind} name {name!r} cannot be stored: expected at most {NAME_LIMIT} letters, digits,"
            " spaces and any of _ - . : / that, read as a path, leads straight down"
        )
    return name


def checked_path(path: str) -> str:
    """Return the path of an artifact after making sure that it leads straight down.

    Raises
    ------
    ValueError
        If it does not.
    """
    parts = path.split("/")
    if not path.isprintable() or "\\" in path or {"", ".", ".."} & set(parts):
        raise ValueError(
            f"artifact path {path!r} cannot be stored: expected names with / between them that "
            "lead straight down, such as plots/roc_curve.png"
        )
    return path


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a nested mapping under dotted names.

    Examples
    --------
    >>> dict(flatten({"xgboost": {"max_depth": 6, "eta": 0.1}, "seed": 1}))
    {'xgboost.max_depth': 6, 'xgboost.eta': 0.1, 'seed': 1}
    """
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def plain(value: Any) -> Any:
    """Turn NumPy, pandas, date, path, enum and set values into plain Python ones, recursively."""
    if value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, np.generic | np.ndarray) and value.dtype.kind in "mM":
        value = value.astype(f"{value.dtype.kind}8[us]")  # finer ones turn into bare integers
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, date):  # datetime and pandas.Timestamp are dates, too
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy scalars and arrays, pandas Series and Index
        return plain(value.tolist()) if not isinstance(value.tolist(), type(value)) else str(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return str(value)


def param_text(name: str, value: Any) -> str:
    """Write one parameter as MLflow stores it.

    Raises
    ------
    ValueError
        If the text is longer than MLflow keeps; the message names the parameter.
    """
    value = plain(value)
    text = json.dumps(value) if isinstance(value, list | dict) else str(value)
    if len(text) > PARAM_LIMIT:
        raise ValueError(
            f"parameter {name} has {len(text)} characters, MLflow keeps at most {PARAM_LIMIT}: "
            f"log it with log_dict_artifact({{'{name}': ...}}, '{name}.json') instead"
        )
    return text


def same_param(stored: str, text: str) -> bool:
    """Tell whether a stored parameter means the same value.

    ``mlflow run`` stores parameters as they were typed and quoted for the shell (``0.10``,
    ``'a b'``) before the step logs what it parsed (``0.1``, ``a b``).

    Examples
    --------
    >>> same_param("0.10", "0.1"), same_param("'a b'", "a b"), same_param("3", "4")
    (True, True, False)
    """
    try:
        words = shlex.split(stored)
    except ValueError:
        words = [stored]
    typed = words[0] if len(words) == 1 else stored if words else ""
    if text in (stored, typed):
        return True
    for number in (int, float):  # floats would take long integers that differ for equal
        try:
            return number(typed) == number(text)
        except ValueError:
            continue
    return typed.lower() == text.lower() and text in ("True", "False")


def metric_number(name: str, value: Any) -> float:
    """Return a metric as a float; NaN and infinities are kept.

    Raises
    ------
    TypeError
        If the value is no number, or too large for one; the message names the metric.
    """
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(
            f"metric {name} is {value!r}, expected a number: log text with log_params"
        ) from None


def json_text(value: Any) -> str:
    """Write a value as strict JSON: what JSON has no number for (NaN, infinity) becomes null."""

    def finite(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: finite(inner) for key, inner in item.items()}
        if isinstance(item, list):
            return [finite(inner) for inner in item]
        return None if isinstance(item, float) and not math.isfinite(item) else item

    return json.dumps(finite(plain(value)), indent=2, allow_nan=False) + "\n"
