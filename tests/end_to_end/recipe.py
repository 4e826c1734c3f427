"""What the end-to-end tests share: the project in a repository of its own, and ways to run it."""

import os
import re
import shutil
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Run

from steps.entry_point import open_step
from steps.pipeline import MainParams, main

ROOT = Path(__file__).resolve().parents[2]


def environment(**changes: str) -> dict[str, str]:
    """Return an environment in which nothing is decided, and `python` is the one of the tests."""
    dropped = ("MLFLOW_", "GIT_", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_WAIT_POLICY": "PASSIVE",
        **changes,
    }


def run(*command: str, cwd: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, whatever that is."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def git(*arguments: str, cwd: Path) -> str:
    """Run git as somebody, with nobody's configuration, and return what it says."""
    someone = ("-c", "user.name=Somebody", "-c", "user.email=somebody@localhost")
    nobody = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = run("git", *someone, *arguments, cwd=cwd, **nobody)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def copy_project(folder: Path) -> Path:
    """Copy the working tree, without what git ignores, into a repository with one commit."""
    names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():  # a file may be deleted and not yet committed
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git("init", "--quiet", "--initial-branch=main", cwd=folder)
    git("add", "--all", cwd=folder)
    git("commit", "--quiet", "--message=The recipe", cwd=folder)
    return folder


def mlflow_run(*arguments: str, cwd: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run `mlflow run` with arguments."""
    return run(sys.executable, "-m", "mlflow", "run", *arguments, cwd=cwd, **changes)


def told(stderr: str) -> list[str]:
    """Return the lines of standard error that are not of MLflow's own log."""
    return [line for line in stderr.splitlines() if not re.match(r"\d{4}/\d\d/\d\d \d\d:", line)]


class Recorded:
    """What is recorded in the database of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")

    def runs(self, condition: str = "") -> list[Run]:
        """Return the runs that meet a condition, the oldest first."""
        experiments = [each.experiment_id for each in self.client.search_experiments()]
        return list(
            self.client.search_runs(experiments, condition, order_by=["attributes.start_time"])
        )

    def steps(self, step: str) -> list[Run]:
        return self.runs(f"tags.`candlewick.step` = '{step}'")

    def children(self, parent: Run) -> dict[str, Run]:
        found = self.runs(f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
        by_step = {each.data.tags["candlewick.step"]: each for each in found}
        assert len(by_step) == len(found)
        return by_step

    def artifacts(self, of: Run) -> Path:
        """Return the folder that holds a run's artifacts."""
        return Path(of.info.artifact_uri.removeprefix("file://"))

    def statuses(self) -> dict[str, list[str]]:
        """Return the status of every run, by step."""
        found: dict[str, list[str]] = {}
        for each in self.runs():
            found.setdefault(each.data.tags.get("candlewick.step", "?"), []).append(
                each.info.status
            )
        return found


def tags_of(runs: dict[str, Run], name: str) -> dict[str, Any]:
    """Return one tag of several runs."""
    return {step: each.data.tags.get(name) for step, each in runs.items()}


def run_main_here(**given: Any) -> None:
    """Run all steps in this process, recorded in this folder."""
    params = MainParams(**given)
    with open_step("main", params) as logger:
        main(params, logger)
