"""`--env-manager uv` and `virtualenv`: MLflow installs the lock, the steps run on it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from end_to_end.recipe import Recorded, mlflow_run

pytestmark = pytest.mark.slow

# Imported by every Python before anything else: notes which Python runs what.
WITNESS = """\
import os, sys
with open(os.environ["WITNESSED"], "a") as file:
    file.write(sys.prefix + "\\t" + " ".join(sys.orig_argv) + "\\n")
"""


def run_watched(
    project: Path, folder: Path, *arguments: str, manager: str
) -> tuple[Recorded, dict[str, str]]:
    """Run the project; return what was recorded, and by step module the prefix of its Python."""
    (folder / "watch").mkdir()
    (folder / "watch" / "sitecustomize.py").write_text(WITNESS)
    done = mlflow_run(
        *(str(project), "--env-manager", manager, *arguments),
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


def test_uv(project: Path, new_folder: Callable[[], Path]) -> None:
    folder = new_folder()
    recorded, steps = run_watched(
        *(project, folder, "-P", "isolation=project", "-P", "n_estimators=5"), manager="uv"
    )
    (main,) = recorded.steps("main")
    assert recorded.statuses() == {
        step: ["FINISHED"] for step in ("main", "featurize", "train", "evaluate")
    }
    # The environment manager is handed on to the steps, though MLflow does not do so by itself.
    for run in (main, *recorded.children(main).values()):
        assert run.data.tags["mlflow.project.env"] == "uv"
    modules = ["steps.pipeline", "steps.featurize", "steps.train", "steps.evaluate"]
    assert list(steps) == modules
    (environment,) = set(steps.values())
    assert folder / "environments" in Path(environment).parents


@pytest.mark.skipif(
    not (shutil.which("pyenv") or Path("~/.pyenv/bin/pyenv").expanduser().exists()),
    reason="no pyenv on this machine, which MLflow's virtualenv manager needs",
)
def test_virtualenv(project: Path, new_folder: Callable[[], Path]) -> None:
    folder = new_folder()
    recorded, steps = run_watched(project, folder, "-e", "featurize", manager="virtualenv")
    (featurize,) = recorded.steps("featurize")
    assert featurize.info.status == "FINISHED"
    assert featurize.data.tags["mlflow.project.env"] == "virtualenv"
    assert folder / "environments" in Path(steps["steps.featurize"]).parents
