"""Equal prices have one snapshot ID: in any order, format and partition, on any Python."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from packaging.specifiers import SpecifierSet

from end_to_end.conftest import Launched
from end_to_end.recipe import ROOT, Recorded, run
from steps.market.build import build_snapshot
from steps.market.features import get_feature_set
from steps.market.prices import SAMPLE, load_prices

pytestmark = pytest.mark.slow

SCRIPT = """
from steps.market.build import build_snapshot
from steps.market.features import get_feature_set
from steps.market.prices import SAMPLE, load_prices

print(build_snapshot(load_prices(SAMPLE).table, get_feature_set("core"), 1).snapshot_id)
"""
OURS = f"{sys.version_info.major}.{sys.version_info.minor}"
# All that the market room imports; their own dependencies come along.
PACKAGES = ("numpy", "pandas", "pyarrow", "TA-Lib", "fsspec", "pydantic")


def works(python: Path) -> bool:
    """Tell an interpreter from a version manager's stand-in for one that is not installed."""
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


def other_pythons() -> dict[str, str]:
    """Return an interpreter of every supported version but the one that runs this."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    supported = SpecifierSet(project["requires-python"])
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    folders = [Path(folder) for folder in os.get_exec_path() if Path(folder) != pyenv / "shims"]
    candidates = [path for folder in folders for path in sorted(folder.glob("python3.*"))]
    candidates += sorted(pyenv.glob("versions/*/bin/python3.*"))
    found: dict[str, str] = {}
    for path in candidates:
        version = path.name.removeprefix("python")
        wanted = re.fullmatch(r"3\.\d+", version) and version in supported and version != OURS
        if wanted and version not in found and works(path):
            found[version] = str(path)
    return found


PYTHONS = other_pythons()


@pytest.fixture(scope="module")
def sample_id() -> str:
    """The ID of the bundled prices' features, as this very process computes it."""
    prices = load_prices(SAMPLE).table
    return build_snapshot(prices, get_feature_set("core"), horizon=1).snapshot_id


@pytest.fixture(scope="module")
def folder(new_folder: Callable[[], Path]) -> Path:
    return new_folder()


def write_shuffled_csv(prices: pd.DataFrame, folder: Path) -> Path:
    path = folder / "shuffled.csv"
    prices.sample(frac=1, random_state=0).to_csv(path, index=False)
    return path


def write_parts(prices: pd.DataFrame, folder: Path) -> Path:
    """Write a folder of files, some Parquet, some CSV, with the years dealt out among them."""
    parts = folder / "parts"
    parts.mkdir()
    years = pd.to_datetime(prices["date"]).dt.year
    for number, (_, part) in enumerate(prices.groupby(years % 4)):
        if number % 2:
            part.to_csv(parts / f"{number}.csv.gz", index=False)
        else:
            part.iloc[::-1].to_parquet(parts / f"{number}.parquet", index=False)
    return parts


@pytest.mark.parametrize("write", [write_shuffled_csv, write_parts])
def test_rewritten_prices_have_the_same_id(
    write: Callable[[pd.DataFrame, Path], Path],
    sample_id: str,
    folder: Path,
    tmp_path: Path,
    launch: Callable[..., Launched],
) -> None:
    # As they are bundled: not adjusted yet, so that adjusting is part of what is compared.
    prices = pd.read_parquet(ROOT / "steps" / "market" / "sample" / "prices.parquet")
    done = launch("featurize", folder, prices=str(write(prices, tmp_path)))
    assert done.succeeded, done.lines
    assert done.run.data.tags["feature_snapshot_id"] == sample_id
    keys = [each.data.tags["feature_key"] for each in Recorded(folder).steps("featurize")]
    assert len(set(keys)) == len(keys), "other bytes, so not to be skipped without a look"


@pytest.mark.parametrize(
    "version", [f"{sys.version_info.major}.{sys.version_info.minor}", *PYTHONS]
)
def test_other_pythons_have_the_same_id(version: str, sample_id: str, tmp_path: Path) -> None:
    python = sys.executable
    if version in PYTHONS:
        made = run("uv", "venv", "--quiet", "--python", PYTHONS[version], "there", cwd=tmp_path)
        assert made.returncode == 0, made.stderr
        python = str(tmp_path / "there" / "bin" / "python")
        lock = str(ROOT / "requirements.lock")
        installed = run(
            *("uv", "pip", "install", "--quiet", "--python", python, "--constraint", lock),
            *PACKAGES,
            cwd=tmp_path,
        )
        assert installed.returncode == 0, installed.stderr
    done = run(python, "-c", SCRIPT, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [sample_id]
