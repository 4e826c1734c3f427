"""The project in a repository of its own, and folders from which somebody runs it."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock
import mlflow
import pytest
from mlflow.entities import Run
from mlflow.exceptions import ExecutionException
from services.sqlite import place_database

from end_to_end.recipe import Recorded, copy_project, environment, git, run, told
from end_to_end.servers import git_server, serve


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the working tree, committed: runs of it carry a git commit."""
    return copy_project(tmp_path_factory.mktemp("repository") / "candlewick")


@dataclass(frozen=True)
class Remote:
    """A repository behind HTTP with two commits: the tag v1, and the head of main."""

    uri: str
    tagged: str
    head: str


@pytest.fixture(scope="session")
def remote(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    folder = tmp_path_factory.mktemp("server")
    work = tmp_path_factory.mktemp("work") / "candlewick"
    git("clone", "--quiet", str(project), str(work), cwd=folder)
    git("tag", "v1", cwd=work)
    git("commit", "--quiet", "--allow-empty", "--message=Second", cwd=work)
    git("clone", "--quiet", "--bare", str(work), str(folder / "candlewick.git"), cwd=folder)
    with serve(git_server(folder)) as address:
        yield Remote(
            uri=f"{address}/candlewick.git",
            tagged=git("rev-parse", "v1", cwd=work),
            head=git("rev-parse", "HEAD", cwd=work),
        )


@pytest.fixture(scope="module")
def new_folder(
    tmp_path_factory: pytest.TempPathFactory, migrated_database: Path
) -> Callable[[], Path]:
    """Return a function that makes folders with an empty database in them."""
    return lambda: place_database(migrated_database, tmp_path_factory.mktemp("caller"))


@dataclass(frozen=True)
class Trained:
    """A folder in which the whole recipe has run once."""

    folder: Path
    recorded: Recorded
    featurize: Run
    train: Run
    evaluate: Run


@pytest.fixture(scope="session")
def trained(project: Path, migrated_database: Path) -> Trained:
    """Return the folder that all workers share. Later runs may come in, these are its first."""
    folder = migrated_database.parents[1] / "trained"
    with filelock.FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            folder.mkdir()
            done = run(
                *(sys.executable, "-m", "steps.pipeline"),
                # Trees enough that rows differ in what is forecast for them.
                *("--n_estimators=40", "--early_stopping_rounds=0", "--n_resamples=100"),
                cwd=place_database(migrated_database, folder),
                PYTHONPATH=str(project),
                MLFLOW_EXPERIMENT_NAME="Default",  # where `mlflow run` puts its runs
            )
            assert done.returncode == 0, done.stderr
    recorded = Recorded(folder)
    steps = (recorded.steps(step)[0] for step in ("featurize", "train", "evaluate"))
    return Trained(folder, recorded, *steps)


@dataclass(frozen=True)
class Launched:
    """How a project run ended."""

    run: Run
    succeeded: bool
    lines: list[str]
    """What its process said on standard error."""
    output: str


@pytest.fixture
def launch(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Launched]:
    """Return a function that runs an entry point by ``mlflow.projects.run``, from the folder given.

    That is what ``mlflow run`` does, less the start of another interpreter for the command line.
    """
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PYTHONPATH", raising=False)

    def launch(
        entry_point: str, folder: Path, uri: str = str(project), version: str = "", **typed: str
    ) -> Launched:
        monkeypatch.chdir(folder)
        recorded = Recorded(folder)
        before = {each.info.run_id for each in recorded.runs()}
        capfd.readouterr()
        try:
            mlflow.projects.run(
                uri, entry_point, version or None, parameters=typed, env_manager="local"
            )
            succeeded = True
        except ExecutionException:
            succeeded = False
        output, error = capfd.readouterr()
        new = [each for each in recorded.runs() if each.info.run_id not in before]
        outermost = [each for each in new if "mlflow.parentRunId" not in each.data.tags]
        assert len(outermost) == 1
        return Launched(outermost[0], succeeded, told(error), output)

    return launch
