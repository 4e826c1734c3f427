"""What all tests share: a clean environment, an empty folder to be in, a database to fill."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import pytest
from services.sqlite import place_database

ROOT = Path(__file__).resolve().parents[1]

pytest_plugins = ["services.plugin", "faults.plugin"]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files that say of all their tests that they are slow, where no slow ones are asked.

    pytest would import them, and with them servers and whole pipelines, to leave out their tests
    one by one: a sixth of what `make check` may take.
    """
    if collection_path.suffix != ".py" or "not slow" not in (config.option.markexpr or ""):
        return None
    return True if "\npytestmark = pytest.mark.slow\n" in collection_path.read_text() else None


def clean_environment() -> dict[str, str]:
    """Return the environment without anything the caller decided about MLflow."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return {**kept, "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": str(ROOT)}


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Run each test in a folder of its own, undecided about where to record."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("CANDLEWICK_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("CANDLEWICK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    if "mlflow" in sys.modules:
        import mlflow

        while mlflow.active_run():
            mlflow.end_run()
        mlflow.set_tracking_uri(None)
        mlflow.tracking.fluent._active_experiment_id = None
        # MLflow exports its decisions into the environment; the next test must not inherit them.
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            del os.environ[name]


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: made once, for all workers, for migrations take seconds."""
    ours = tmp_path_factory.getbasetemp()
    shared = ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours
    path = shared / "migrated" / "mlflow.db"
    with filelock.FileLock(shared / "migrated.lock"):
        if not path.parent.exists():
            path.parent.mkdir()
            command = "from steps.tracking.stores import open_store as o; o('sqlite:///mlflow.db')"
            subprocess.run(
                [sys.executable, "-c", command],
                cwd=path.parent,
                env=clean_environment(),
                check=True,
                capture_output=True,
            )
    return path


@pytest.fixture
def database(migrated_database: Path, in_empty_folder: Path) -> Path:
    """A fresh copy of the empty database, as ``mlflow.db`` in the test's folder."""
    return place_database(migrated_database, in_empty_folder) / "mlflow.db"


@pytest.fixture
def run_python(in_empty_folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``python`` with arguments, as a user would, in the test's folder."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=in_empty_folder,
            env=clean_environment() | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run
