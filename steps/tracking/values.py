"""Values as users hold them, turned into what MLflow stores."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any, Final

PARAM_LIMIT: Final = 6000
"""MLflow's longest parameter value, in characters."""


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
    """Turn NumPy, pandas, date, path and set values into plain Python ones, recursively."""
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
    try:
        return float(typed) == float(text)
    except ValueError:
        return typed.lower() == text.lower() and text in ("True", "False")


def metric_number(name: str, value: Any) -> float:
    """Return a metric as a float; NaN and infinities are kept.

    Raises
    ------
    TypeError
        If the value is no number; the message names the metric.
    """
    try:
        return float(value)
    except (TypeError, ValueError):
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
