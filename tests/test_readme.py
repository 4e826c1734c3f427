"""The README: its commands run, its outputs are printed, its tables and links are right."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType

import pytest
from conftest import ROOT, clean_environment
from documents import Document
from end_to_end.model_server import free_port, started
from warm import run_mlflow

from steps.entry_point import StepParams

PAGE = Document((ROOT / "README.md").read_text())
README = PAGE.text
DOCUMENTS = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/backends.md"),
    "steps/market/sample/README.md",
]

BROKEN_CSV = """date,symbol,open,high,low,close,volume
2024-01-02,ABC,10,11,9,10.5,1000
2024-01-03,ABC,10,11,9,abc,1000
2024-01-04,ABC,10,11,9,10.5,1000
2024-01-05,ABC,10.2,9.5,10.1,10.15,1000
"""


def output_block(start: str) -> list[str]:
    block = next(block for block in PAGE.blocks("text") if block.startswith(start))
    return block.splitlines()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    folder = (ROOT / document).parent
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / document).read_text())
    for target in targets:
        assert target.startswith("https://") or (folder / target).exists(), target


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_the_first_two_commands_set_everything_up() -> None:
    assert [command.split()[:2] for command in PAGE.commands()[:2]] == [
        ["make", "run"],
        ["make", "test"],
    ]
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_parameter_table_is_complete() -> None:
    from steps.evaluate import EvaluateParams
    from steps.featurize import FeaturizeParams
    from steps.judge import JudgeParams
    from steps.monitor import MonitorParams
    from steps.predict import PredictParams
    from steps.promote import PromoteParams
    from steps.reproduce import ReproduceParams
    from steps.rollback import RollbackParams
    from steps.train import ModelParams, TrainParams
    from steps.walk_forward import WalkForwardParams

    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", README, flags=re.MULTILINE))
    elsewhere = {**ModelParams.model_fields, **JudgeParams.model_fields}
    for step, params, told_elsewhere in (
        ("featurize", FeaturizeParams, {}),
        ("train", TrainParams, {}),
        ("evaluate", EvaluateParams, JudgeParams.model_fields),
        ("walk_forward", WalkForwardParams, elsewhere),
        ("promote", PromoteParams, {}),
        ("rollback", RollbackParams, {}),
        ("reproduce", ReproduceParams, {}),
        ("predict", PredictParams, {}),
        ("monitor", MonitorParams, {}),
    ):
        told = re.findall(r"`(\w+)` \(([\w.:/@]*\w)", rows[step])
        assert dict(told) == defaults(params, but=told_elsewhere), step
    judging = {name: rows[name].partition(" | ")[0] for name in JudgeParams.model_fields}
    assert judging == defaults(JudgeParams)


def defaults(params: type[StepParams], but: Mapping[str, object] = MappingProxyType({})) -> object:
    return {
        name: str(field.default).replace("False", "false")
        for name, field in params.model_fields.items()
        if name not in but
    }


def test_the_settings_table_is_complete() -> None:
    from steps.tracking.settings import Settings

    row = r"^\| `((?:MLFLOW|CANDLEWICK)_\w+)` \|\s*`?([^`|]*?)`?\s*\|"
    rows = dict(re.findall(row, README, flags=re.MULTILINE))
    assert set(rows) == set(Settings.model_fields)
    settings = Settings()
    assert rows["MLFLOW_TRACKING_URI"] == settings.tracking_uri
    assert rows["MLFLOW_EXPERIMENT_NAME"] == settings.MLFLOW_EXPERIMENT_NAME
    assert rows["MLFLOW_BACKEND"] == settings.MLFLOW_BACKEND


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the project, as a reader has it after cloning."""
    folder = tmp_path_factory.mktemp("clone") / "candlewick"
    kept_out = shutil.ignore_patterns(
        ".git", ".venv", "mlruns", "mlflow.db*", ".*_cache", ".hypothesis"
    )
    shutil.copytree(ROOT, folder, ignore=kept_out)
    yield folder


def as_a_reader() -> dict[str, str]:
    """Return the environment of somebody who has activated `.venv`."""
    environment = clean_environment()
    del environment["PYTHONPATH"]  # a reader has none
    binaries = Path(sys.executable).parent
    environment["PATH"] = f"{binaries}{os.pathsep}{environment['PATH']}"
    return environment


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    if command[0] == "mlflow":
        return run_mlflow(command, folder, as_a_reader())
    return subprocess.run(
        command,
        cwd=folder,
        env=as_a_reader(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_the_commands_run_one_after_the_other_and_print_what_is_shown(clone: Path) -> None:
    port = str(free_port())
    with ExitStack() as servers:
        for commands, shown in PAGE.sessions():
            said: list[str] = []
            for command in commands:
                # What `make run` does, in the environment there is; `make test` would not end.
                words = shlex.split(command.replace("make run", "mlflow run . --env-manager local"))
                words = [word.replace("5001", port) for word in words]
                if words[-1] == "&":
                    servers.enter_context(started(words[:-1], int(port), clone, as_a_reader()))
                elif words[0] == "curl" and shutil.which("curl") is None:
                    said += post(words, clone)
                elif words[0] != "make":
                    done = run(words, clone)
                    assert done.returncode == 0, f"{command}\n{done.stderr}"
                    said += done.stdout.splitlines()
            assert [line for line in shown if line not in said] == [], said[-20:]


def post(curl: list[str], folder: Path) -> list[str]:
    """Do what `curl` does with these words, on a machine that has none."""
    address = next(word for word in curl if word.startswith("http"))
    name, _, value = curl[curl.index("-H") + 1].partition(": ")
    body = (folder / curl[curl.index("-d") + 1].removeprefix("@")).read_bytes()
    request = urllib.request.Request(address, body, {name: value})
    with urllib.request.urlopen(request, timeout=300) as answer:
        return str(answer.read().decode()).splitlines()


def test_enough_of_the_readme_is_shown_with_its_output() -> None:
    shown = {command for commands, output in PAGE.sessions() if output for command in commands}
    for step in ("walk_forward", "promote", "rollback", "reproduce", "predict", "monitor"):
        assert any(f"-e {step}" in command for command in shown), step


@pytest.mark.slow
def test_the_broken_file_is_reported_as_shown(clone: Path) -> None:
    (clone / "broken.csv").write_text(BROKEN_CSV)
    done = run([sys.executable, "-m", "steps.featurize", "--prices", "broken.csv"], clone)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-3:] == output_block("candlewick featurize failed")


@pytest.mark.slow
def test_the_python_blocks_run(clone: Path) -> None:
    for block in PAGE.blocks("python"):
        done = run([sys.executable, "-c", block], clone)
        assert done.returncode == 0, done.stderr
