"""What users hold, what MLflow keeps: every kind of value on its way from one to the other."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import _validate_metric

from steps.tracking.values import (
    PARAM_LIMIT,
    checked_name,
    flatten,
    json_text,
    metric_number,
    param_text,
    plain,
    same_param,
)


class Side(Enum):
    LONG = "long"


class Folds(IntEnum):
    FIVE = 5


class Model(str, Enum):  # noqa: UP042 - the older way, which users have
    XGBOOST = "xgboost"


DAY = "2020-02-29T00:00:00"

PLAIN = [
    (np.float64(0.1), 0.1),
    (np.float32(0.5), 0.5),
    (np.int64(7), 7),
    (np.uint8(255), 255),
    (np.bool_(True), True),
    (np.str_("core"), "core"),
    (np.array(3), 3),
    (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    (np.datetime64("2020-02-29"), DAY),
    (np.datetime64("2020-02-29", "ns"), DAY),
    (np.array(["2020-02-29", "NaT"], dtype="datetime64[ns]"), [DAY, None]),
    (np.datetime64("NaT"), None),
    (np.timedelta64(90, "m"), "1:30:00"),
    (pd.Timestamp("2020-02-29"), DAY),
    (pd.Timestamp("2020-02-29", tz="UTC"), f"{DAY}+00:00"),
    (pd.NaT, None),
    (pd.NA, None),
    (pd.Series([1.5, 2.5]), [1.5, 2.5]),
    (pd.Series([1, None], dtype="Int8"), [1, None]),
    (pd.Series(pd.to_datetime(["2020-02-29", "NaT"])), [DAY, None]),
    (pd.Index(["AAPL", "IBM"]), ["AAPL", "IBM"]),
    (pd.Timedelta("1D"), "1 days 00:00:00"),
    (date(2020, 2, 29), "2020-02-29"),
    (datetime(2020, 2, 29, tzinfo=UTC), f"{DAY}+00:00"),
    (timedelta(hours=1), "1:00:00"),
    (Decimal("0.10"), "0.10"),
    (Side.LONG, "long"),
    (Folds.FIVE, 5),
    (Model.XGBOOST, "xgboost"),
    (Path("results/plots"), "results/plots"),
    ({3, 1, 2}, [1, 2, 3]),
    ((1, (2, [np.int8(3)])), [1, [2, [3]]]),
    ({1: {Side.LONG: np.nan}}, {"1": {"Side.LONG": math.nan}}),
    (None, None),
    (True, True),
    ("Zürich 東京", "Zürich 東京"),
]


@pytest.mark.parametrize(("value", "expected"), PLAIN, ids=lambda value: type(value).__name__)
def test_plain_leaves_nothing_but_json_types(value: Any, expected: Any) -> None:
    found = plain(value)
    assert type(found) is type(expected)
    assert repr(found) == repr(expected)  # repr, for NaN equals itself in it
    json.dumps(found)


def test_numbers_keep_every_bit() -> None:
    assert plain(np.float64(0.1) + np.float64(0.2)) == 0.1 + 0.2
    assert plain(np.float32(0.1)) == float(np.float32(0.1)) != 0.1


def test_flatten_names_leaves_by_their_path_and_keeps_empty_mappings() -> None:
    nested = {"model": {"depth": 6, "grid": {"eta": [0.1, 0.3]}, "none": {}}, "seed": 1, "a.b": 2}
    assert dict(flatten(nested)) == {
        "model.depth": 6,
        "model.grid.eta": [0.1, 0.3],
        "model.none": {},
        "seed": 1,
        "a.b": 2,
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (np.float64(0.1), "0.1"),
        (np.float32(0.5), "0.5"),
        (1e-05, "1e-05"),
        (np.int64(6), "6"),
        (True, "True"),
        (np.bool_(False), "False"),
        (None, "None"),
        (pd.NaT, "None"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        ("a b", "a b"),
        ("", ""),
        ([1, 2.5, "x"], '[1, 2.5, "x"]'),
        ({}, "{}"),
        (pd.Timestamp("2020-02-29"), DAY),
        (Decimal("0.10"), "0.10"),
        (Model.XGBOOST, "xgboost"),
        (Path("a/b"), "a/b"),
    ],
)
def test_param_text(value: Any, text: str) -> None:
    assert param_text("p", value) == text


def test_a_parameter_is_kept_whole_or_refused_by_name() -> None:
    assert len(param_text("grid", "x" * PARAM_LIMIT)) == PARAM_LIMIT
    with pytest.raises(ValueError, match=r"parameter grid has 6001 .* at most 6000.*log_dict_art"):
        param_text("grid", "x" * (PARAM_LIMIT + 1))


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        ("0.10", "0.1"),
        ("1e-05", "1e-05"),
        ("1E-5", "1e-05"),
        ("5", "5.0"),
        ("'a b'", "a b"),
        ('"a b"', "a b"),
        ("''", ""),
        ("", ""),
        ("true", "True"),
        ("nan", "nan"),
        ("it's", "it's"),
        ("C:\\prices", "C:\\prices"),
        ("[1, 2]", "[1, 2]"),
    ],
)
def test_params_that_mean_the_same(stored: str, text: str) -> None:
    assert same_param(stored, text)


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        ("0.1", "0.2"),
        ("1", "True"),
        ("xgboost", "XGBoost"),
        ("", "0"),
        ("a b", "a"),
        ("None", ""),
        ("9007199254740993", "9007199254740992"),  # equal as floats
    ],
)
def test_params_that_differ(stored: str, text: str) -> None:
    assert not same_param(stored, text)


@given(st.floats(allow_nan=False))
@example(0.1)
@example(5e-324)
def test_a_float_as_typed_in_any_way_is_the_float_that_was_parsed(value: float) -> None:
    parsed = param_text("p", value)
    for typed in (repr(value), f"{value:.17e}", f"'{value!r}'", f"{value!r} "):
        assert same_param(typed, parsed)
    assert not same_param(repr(math.nextafter(value, math.inf)), parsed) or value == math.inf


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1.0),
        (True, 1.0),
        (np.float32(0.5), 0.5),
        (np.array(0.25), 0.25),
        (Decimal("0.1"), 0.1),
        (Folds.FIVE, 5.0),
        (math.inf, math.inf),
        ("0.5", 0.5),
    ],
)
def test_metric_number(value: Any, number: float) -> None:
    found = metric_number("m", value)
    assert type(found) is float
    assert found == number


def test_nan_is_a_number() -> None:
    assert math.isnan(metric_number("m", np.nan))


@pytest.mark.parametrize(
    "value",
    [None, "high", pd.NA, pd.NaT, Side.LONG, [0.5], np.array([0.5]), 1j, date.today(), 10**400],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_number_is_refused_by_name(value: Any) -> None:
    with pytest.raises(TypeError, match=r"metric auc_roc is .*, expected a number: .*log_params"):
        metric_number("auc_roc", value)


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=8,
)


def _without_non_finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_non_finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_non_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is not JSON")


@settings(max_examples=50)
@given(JSON_LIKE)
def test_json_text_is_strict_json_that_reads_back(value: Any) -> None:
    text = json_text(value)
    assert json.loads(text, parse_constant=_refuse) == _without_non_finite(value)
    assert text.endswith("\n")


def test_json_text_of_what_no_json_writer_takes() -> None:
    text = json_text(
        {
            "auc": np.float32(0.5),
            "worst": -np.inf,
            "by_year": {2012: np.nan},
            "dates": pd.to_datetime(["2020-02-29", "NaT"]),
            "where": Path("a"),
            "kind": Model.XGBOOST,
        }
    )
    assert json.loads(text, parse_constant=_refuse) == {
        "auc": 0.5,
        "worst": None,
        "by_year": {"2012": None},
        "dates": [DAY, None],
        "where": "a",
        "kind": "xgboost",
    }


@given(st.text() | st.text(alphabet="ab/.:_- ü%", max_size=8) | st.just("x").map(lambda x: x * 251))
@example("validation/auc roc")
@example("xgboost.max_depth")
@example("große Zahl 値")
@example("..a")
@example("a//b")
@example("loss%")
def test_names_are_refused_exactly_where_mlflow_would(name: str) -> None:
    try:
        _validate_metric(name, 1.0, 0, 0)
    except MlflowException:
        mlflow_takes_it = False
    else:
        mlflow_takes_it = not name.endswith("\n")  # it overlooks this one; a URL would not
    if mlflow_takes_it:
        assert checked_name("metric", name) == name
    else:
        with pytest.raises(ValueError, match=r"metric name .* cannot be stored: expected at"):
            checked_name("metric", name)
