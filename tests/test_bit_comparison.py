"""Two results, bit by bit: nothing that differs passes, nothing that is equal is reported."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steps.bit_comparison import Results, compare

NAN = float("nan")


def results(**given: Any) -> Results:
    usual: dict[str, Any] = {
        "metrics": {"auc": [(0, 0.5), (1, 0.25)], "loss": [(0, NAN)]},
        "predictions": [0.5, 0.25, 0.125],
        "files": {"split.json": {"train": {"rows": 3}}},
    }
    parts = usual | given
    return Results(parts["metrics"], np.array(parts["predictions"]), parts["files"])


def test_the_same_is_identical_nan_included() -> None:
    found = compare(results(), results())
    assert found.identical
    assert found.findings == []
    assert (found.rows, found.differing_rows, found.largest_difference) == (3, 0, 0.0)
    assert found.metrics == ("auc", "loss")


@pytest.mark.parametrize(
    ("changed", "finding"),
    [
        # The next float64 after 0.25 is 2**-54 above it: 5.55e-17.
        (
            {"predictions": [0.5, np.nextafter(0.25, 1), 0.125]},
            "predictions differ in 1 of 3 rows, by up to 5.55e-17",
        ),
        (
            {"predictions": [0.25, 0.5, 0.125]},
            "predictions differ in 2 of 3 rows, by up to 0.25",
        ),
        (
            {"metrics": {"auc": [(0, 0.5), (1, 0.25)], "loss": [(0, 0.0)]}},
            "1 of 2 metrics differ (loss)",
        ),
        (
            {"metrics": {"auc": [(0, 0.25), (1, 0.5)], "loss": [(0, NAN)]}},
            "1 of 2 metrics differ (auc)",
        ),
        (
            {"metrics": {"auc": [(0, 0.5)], "loss": [(0, NAN)]}},
            "1 of 2 metrics differ (auc)",
        ),
        (
            {"metrics": {"auc": [(0, 0.5), (2, 0.25)], "loss": [(0, NAN)]}},
            "1 of 2 metrics differ (auc)",
        ),
        (
            {"metrics": {"auc": [(0, 0.5), (1, 0.25)], "f1": [], "mcc": [(0, 1.0)]}},
            "2 of 4 metrics differ (loss, mcc)",
        ),
        ({"metrics": {}}, "2 of 2 metrics differ (auc, loss)"),
        ({"files": {"split.json": {"train": {"rows": 4}}}}, "split.json differs"),
        ({"files": {}}, "split.json differs"),
    ],
)
def test_whatever_differs_is_named(changed: dict[str, Any], finding: str) -> None:
    found = compare(results(), results(**changed))
    assert not found.identical
    assert found.findings == [finding]
    assert compare(results(**changed), results()).findings == [finding], "either way round"


def test_minus_zero_is_another_bit() -> None:
    found = compare(results(predictions=[0.0]), results(predictions=[-0.0]))
    assert found.findings == ["predictions differ in 1 of 1 rows, by up to 0"]
    metrics = ({"loss": [(0, zero)]} for zero in (0.0, -0.0))
    assert not compare(*(results(metrics=each) for each in metrics)).identical


@pytest.mark.parametrize(
    ("one", "other"), [(0.0, -0.0), (1, True), (1, 1.0), (0, False), ("1", 1), ({}, None)]
)
def test_what_python_calls_equal_or_empty_is_another_file(one: object, other: object) -> None:
    files = ({"split.json": {"train": [value]}} for value in (one, other))
    found = compare(*(results(files=each) for each in files))
    assert found.findings == ["split.json differs"]
    assert not found.identical


def test_a_files_order_of_keys_and_nan_are_no_difference() -> None:
    files = ({"a": 1, "b": NAN}, {"b": float("nan"), "a": 1})
    assert compare(*(results(files={"split.json": each}) for each in files)).identical


def test_a_missing_file_is_not_an_empty_one() -> None:
    found = compare(results(files={"split.json": {}}), results(files={}))
    assert found.findings == ["split.json differs"]


def test_without_any_metrics_nothing_is_shown() -> None:
    found = compare(results(metrics={}), results(metrics={}))
    assert not found.identical
    assert found.findings == ["neither has any metrics"]


def test_a_long_list_of_metrics_is_cut() -> None:
    many = {f"m{number}": [(0, 1.0)] for number in range(5)}
    found = compare(results(metrics=many), results(metrics={}))
    assert found.findings == ["5 of 5 metrics differ (m0, m1, m2 and 2 more)"]


@given(
    predictions=st.lists(st.floats(0, 1), min_size=1, max_size=20),
    data=st.data(),
)
def test_it_counts_the_rows_that_were_changed(
    predictions: list[float], data: st.DataObject
) -> None:
    rows = data.draw(st.sets(st.integers(0, len(predictions) - 1)))
    changed = [2 + p if row in rows else p for row, p in enumerate(predictions)]
    found = compare(results(predictions=predictions), results(predictions=changed))
    assert found.differing_rows == len(rows)
    assert found.identical == (not rows)
    assert found.largest_difference == pytest.approx(2.0 if rows else 0.0)
