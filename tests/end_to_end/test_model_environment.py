"""A model in an environment of its own: nothing but what its requirements say, and its prices."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import pandas as pd
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from end_to_end.conftest import Trained
from end_to_end.model_server import ModelServer, serve_model
from steps.market.features import get_feature_set
from steps.market.prices import SAMPLE, load_prices

pytestmark = pytest.mark.slow

BUILD_TOOLS = {"pip", "setuptools", "wheel"}  # MLflow puts them into every environment


@dataclass(frozen=True)
class Apart:
    """A copy of a model, its server, and the environment MLflow has built for it."""

    model: Path
    server: ModelServer
    environment: Path


@pytest.fixture(scope="module")
def apart(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    # `serve`, not `predict`: that would build the same environment, and delete it at its end.
    folder = tmp_path_factory.mktemp("machine")
    model_id = trained.train.data.tags["model_uri"].removeprefix("models:/")
    stored = trained.recorded.client.get_logged_model(model_id).artifact_location
    model = folder / "model"
    shutil.copytree(stored.removeprefix("file://"), model)
    with serve_model(
        *("model", folder), manager="uv", MLFLOW_ENV_ROOT=str(folder / "environments")
    ) as server:
        (environment,) = (folder / "environments").iterdir()
        yield Apart(model, server, environment)


def test_it_forecasts_as_evaluate_did(apart: Apart, trained: Trained) -> None:
    path = trained.recorded.artifacts(trained.evaluate) / "predictions.parquet"
    evaluated = pd.read_parquet(path)
    last = evaluated[evaluated["date"] == evaluated["date"].max()]
    prices = load_prices(SAMPLE).table
    known = prices[prices["date"] <= last["date"].iloc[0]]
    recent = known.groupby("symbol").tail(get_feature_set("core").settled_rows)
    told = recent.assign(date=recent["date"].dt.strftime("%Y-%m-%d"))
    answer = apart.server.ask({"dataframe_split": told.to_dict("split", index=False)}).predictions
    assert {each["symbol"]: each["probability"] for each in answer} == dict(
        zip(last["symbol"], last["probability"], strict=True)
    )


def test_its_environment_holds_what_it_pins_and_nothing_else(apart: Apart) -> None:
    lines = (apart.model / "constraints.txt").read_text().split()
    pinned = dict(line.split("==") for line in lines)
    asked = (apart.model / "requirements.txt").read_text().splitlines()
    assert asked.pop() == "-c constraints.txt"
    for requirement in map(Requirement, asked):
        assert str(requirement.specifier) == f"=={pinned[canonicalize_name(requirement.name)]}"

    (packages,) = apart.environment.glob("lib/python*/site-packages")
    installed = {
        canonicalize_name(each.metadata["Name"]): each.version
        for each in distributions(path=[str(packages)])
    }
    assert len(pinned) > 50
    assert {
        name: version
        for name, version in installed.items()
        if name in pinned or name not in BUILD_TOOLS
    } == pinned
