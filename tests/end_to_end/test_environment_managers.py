"""`--env-manager uv` and `virtualenv`: MLflow installs the lock, the steps run on it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from end_to_end.conftest import Remote
from end_to_end.recipe import ROOT, Recorded, mlflow_run

pytestmark = pytest.mark.slow

PYENV = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
PYTHON = yaml.safe_load((ROOT / "python_env.yaml").read_text())["python"]
# Imported by every Python before anything else: notes which Python runs what.
WITNESS = """\
import os, sys
with open(os.environ["WITNESSED"], "a") as file:
    file.write(sys.prefix + "\\t" + " ".join(sys.orig_argv) + "\\n")
"""


def run_watched(
    uri: str, folder: Path, *arguments: str, manager: str
) -> tuple[Recorded, dict[str, str]]:
    """Run the project; return what was recorded, and by step module the prefix of its Python."""
    (folder / "watch").mkdir()
    (folder / "watch" / "sitecustomize.py").write_text(WITNESS)
    done = mlflow_run(
        *(uri, "--env-manager", manager, *arguments),
        cwd=folder,
        PYTHONPATH=str(folder / "watch"),
        WITNESSED=str(folder / "witnessed"),
        # Of their own: both managers would take the same folder for the same lock.
        MLFLOW_ENV_ROOT=str(folder / "environments"),
        PIP_NO_COMPILE="1",  # compiling every package takes longer than the one run that follows
    )
    assert done.returncode == 0, done.stderr[-4000:]
    witnessed = [
        line.split("\t") for line in (folder / "witnessed").read_text().splitlines() if "\t" in line
    ]
    steps = {
        command.split()[2]: prefix
        for prefix, command in witnessed
        if command.split()[1:2] == ["-m"] and command.split()[2].startswith("steps.")
    }
    return Recorded(folder), steps


@pytest.mark.thorough
def test_uv_with_steps_apart_from_a_git_server(
    remote: Remote, new_folder: Callable[[], Path]
) -> None:
    folder = new_folder()
    typed = ("-v", "v1", "-P", "isolation=project", "-P", "n_estimators=5")
    recorded, steps = run_watched(remote.uri, folder, *typed, manager="uv")
    (main,) = recorded.steps("main")
    assert recorded.statuses() == {
        step: ["FINISHED"] for step in ("main", "featurize", "train", "evaluate")
    }
    # The environment manager is handed on to the steps, though MLflow does not do so by itself.
    for run in (main, *recorded.children(main).values()):
        assert run.data.tags["mlflow.project.env"] == "uv"
        # Not the temporary clone: a step can be run again when that is gone.
        assert run.data.tags["mlflow.source.name"] == remote.uri
        assert run.data.tags["mlflow.source.git.commit"] == remote.tagged
    modules = ["steps.pipeline", "steps.featurize", "steps.train", "steps.evaluate"]
    assert list(steps) == modules
    (environment,) = set(steps.values())
    assert folder / "environments" in Path(environment).parents


@pytest.mark.skipif(
    shutil.which("pyenv") is None or not (PYENV / "versions" / PYTHON).is_dir(),
    reason=f"no pyenv with Python {PYTHON} on this machine, and compiling one takes minutes",
)
def test_virtualenv(project: Path, new_folder: Callable[[], Path]) -> None:
    folder = new_folder()
    recorded, steps = run_watched(str(project), folder, "-e", "featurize", manager="virtualenv")
    (featurize,) = recorded.steps("featurize")
    assert featurize.info.status == "FINISHED"
    assert featurize.data.tags["mlflow.project.env"] == "virtualenv"
    assert folder / "environments" in Path(steps["steps.featurize"]).parents
