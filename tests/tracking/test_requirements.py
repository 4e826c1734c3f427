"""A model's requirements are what is installed, with all that they bring along."""

from importlib.metadata import version

from packaging.requirements import Requirement

from steps.tracking.requirements import constraints, pinned


def test_requirements_are_pinned_to_what_is_installed() -> None:
    for_prices = pinned("xgboost", takes_prices=True)
    assert f"TA-Lib=={version('TA-Lib')}" in for_prices
    assert f"skops=={version('skops')}" in pinned("sklearn")
    assert not any(each.startswith(("skops", "TA-Lib")) for each in pinned("xgboost"))


def test_what_they_bring_along_is_pinned_too() -> None:
    found = dict(each.split("==") for each in constraints(["xgboost", "pandas"]))
    assert found["xgboost"] == version("xgboost")
    assert found["scipy"] == version("scipy")  # xgboost's
    assert found["six"] == version("six")  # of python-dateutil, which is pandas'
    assert "matplotlib" not in found  # an extra of pandas that nobody asked for


def test_extras_count_where_they_are_asked_for() -> None:
    plain, with_extra = (
        {Requirement(each).name for each in constraints([asked])}
        for asked in ("fsspec", "fsspec[http]")
    )
    assert "aiohttp" in with_extra - plain


def test_what_is_not_installed_is_left_out() -> None:
    assert constraints(["surely-not-installed>=1"]) == []
