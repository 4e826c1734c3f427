"""Every example in a docstring of `steps` runs and shows what it says."""

import doctest
import importlib
import pkgutil

import pytest

import steps

MODULES = sorted(module.name for module in pkgutil.walk_packages(steps.__path__, "steps."))


@pytest.mark.parametrize("name", MODULES)
def test_examples_show_what_they_say(name: str, request: pytest.FixtureRequest) -> None:
    module = importlib.import_module(name)
    if name.startswith("steps.tracking"):  # they may record something
        request.getfixturevalue("database")
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [
        test
        for name in MODULES
        for test in finder.find(importlib.import_module(name), name)
        if test.examples
    ]
    assert len(found) >= 8
