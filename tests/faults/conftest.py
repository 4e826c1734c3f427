"""Backends for faults to happen to."""

import os
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from end_to_end.recipe import copy_project
from services.backends import Backend

from faults.cells import Losses
from faults.place import Place, Work, few_prices


@pytest.fixture(scope="session")
def places(
    open_backend: Callable[[str], Backend], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Place]:
    """Return a function that opens backends, each once."""
    project = copy_project(tmp_path_factory.mktemp("repository") / "candlewick")
    few_prices(project / "few.csv")
    return cache(lambda name: Place(open_backend(name), project, tmp_path_factory.mktemp("place")))


@pytest.fixture
def place(
    request: pytest.FixtureRequest,
    places: Callable[[str], Place],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Place]:
    """The backend that ``fault`` asks for; this process may use it, too."""
    opened = places(request.param)
    for name, value in opened.variables.items():
        monkeypatch.setenv(name, value)
    yield opened
    for each in opened.started:
        if each.left():
            os.killpg(each.process.pid, signal.SIGKILL)
        each.process.wait()
    opened.started.clear()
    opened.ensure_running()


@pytest.fixture
def work(place: Place, in_empty_folder: Path) -> Work:
    """An experiment of the test's own."""
    return place.new_experiment(in_empty_folder)


@pytest.fixture
def losses(request: pytest.FixtureRequest) -> Losses:
    """Where a test says what it misses."""
    return Losses(request.node.user_properties)
