"""reproduce in a repository: a model trained before the code changed, and the code of then."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow.entities import Run

from end_to_end.recipe import Recorded, copy_project, git, mlflow_run, run, told
from end_to_end.servers import git_server, serve
from steps.market.prices import load_prices

pytestmark = pytest.mark.slow

TRAIN = ("--n_estimators=8", "--early_stopping_rounds=3")


@dataclass(frozen=True)
class Bench:
    """A repository whose head trains otherwise than its commit `old`, and a model of the latter."""

    project: Path
    folder: Path
    old: str
    trained: Run

    @property
    def recorded(self) -> Recorded:
        return Recorded(self.folder)

    def step(self, name: str, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return run_step(name, self.project, self.folder, *arguments, **changes)

    def reproduce(self, **changes: str) -> tuple[subprocess.CompletedProcess[str], Run]:
        done = self.step("reproduce", f"--run_id={self.trained.info.run_id}", **changes)
        return done, self.recorded.steps("reproduce")[-1]

    def copy_of(self, reproduced: Run) -> Run:
        return self.recorded.client.get_run(reproduced.data.tags["copy_run_id"])


def run_step(
    name: str, project: Path, folder: Path, *arguments: str, **changes: str
) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", f"steps.{name}", *arguments)
    return run(*command, cwd=folder, PYTHONPATH=str(project), **changes)


def change_algorithm(project: Path) -> None:
    """Have XGBoost take smaller steps."""
    path = project / "steps" / "learning" / "models.py"
    text = path.read_text()
    assert text.count('tree_method="hist"') == 1
    path.write_text(text.replace('tree_method="hist"', 'tree_method="hist", max_delta_step=0.1'))


def change_comment(project: Path) -> None:
    with (project / "steps" / "learning" / "models.py").open("a") as file:
        file.write("# A remark.\n")


def commit(project: Path) -> str:
    git("commit", "--quiet", "--all", "--message=Changed", cwd=project)
    return git("rev-parse", "HEAD", cwd=project)


def state(project: Path) -> dict[str, str]:
    """What a user would miss: the files, the index, branches, worktrees and unfinished business."""
    asked = {
        "status": ("status", "--porcelain", "--ignored=no"),
        "worktrees": ("worktree", "list"),
        "refs": ("for-each-ref",),
        "head": ("rev-parse", "--symbolic-full-name", "HEAD"),
        "stash": ("stash", "list"),
    }
    return {name: git(*command, cwd=project) for name, command in asked.items()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, new_folder: Callable[[], Path]) -> Bench:
    """The old commit's model, on the last 400 days of three of the bundled stocks."""
    project = copy_project(tmp_path_factory.mktemp("repository") / "candlewick")
    folder = new_folder()
    table = load_prices("sample").table
    some = table[table["symbol"].isin(["IBM", "MSFT", "GOOG"])]
    some.groupby("symbol").tail(400).to_parquet(folder / "prices.parquet", index=False)
    for name, arguments in (("featurize", ("--prices=prices.parquet",)), ("train", TRAIN)):
        done = run_step(name, project, folder, *arguments)
        assert done.returncode == 0, done.stderr
    old = git("rev-parse", "HEAD", cwd=project)
    (run_of_train,) = Recorded(folder).steps("train")
    assert run_of_train.data.tags["mlflow.source.git.commit"] == old
    change_algorithm(project)
    commit(project)
    return Bench(project, folder, old, run_of_train)


def test_the_code_of_then_makes_the_model_of_then_and_nothing_is_left_behind(
    trained: Bench, tmp_path: Path
) -> None:
    change_comment(trained.project)  # the user is in the middle of something
    (trained.project / "steps" / "idea.py").write_text("half an idea\n")
    git("add", "steps/idea.py", cwd=trained.project)
    try:
        before = state(trained.project)
        done, reproduced = trained.reproduce(TMPDIR=str(tmp_path))
        assert state(trained.project) == before
    finally:
        git("reset", "--quiet", "--hard", cwd=trained.project)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob("candlewick-*"))
    said = done.stdout.splitlines()
    assert f"training with the code of commit {trained.old[:7]}, as recorded" in said
    assert said[-1].startswith("bit-identical: ")
    assert said[-1].endswith(" metrics"), "and nothing differs that is recorded"
    assert reproduced.info.status == "FINISHED"
    copy = trained.copy_of(reproduced)
    for tag in ("mlflow.source.git.commit", "mlflow.source.name", "code_sha256"):
        assert copy.data.tags[tag] == trained.trained.data.tags[tag]
    assert copy.data.tags["copy_of"] == trained.trained.info.run_id
    assert copy.data.tags["mlflow.parentRunId"] == reproduced.info.run_id


def test_mlflow_run_reproduces_too(trained: Bench) -> None:
    typed = ("-e", "reproduce", "-P", f"run_id={trained.trained.info.run_id}")
    done = mlflow_run(str(trained.project), "--env-manager", "local", *typed, cwd=trained.folder)
    assert done.returncode == 0, done.stderr
    assert "bit-identical: " in done.stdout
    reproduced = trained.recorded.steps("reproduce")[-1]
    assert trained.copy_of(reproduced).data.tags["mlflow.source.git.commit"] == trained.old


@pytest.mark.thorough
def test_without_the_commit_the_current_code_is_what_differs(
    trained: Bench, tmp_path: Path
) -> None:
    elsewhere = shutil.copytree(trained.project, tmp_path / "candlewick")
    shutil.rmtree(elsewhere / ".git")
    git("init", "--quiet", "--initial-branch=main", cwd=elsewhere)
    git("add", "--all", cwd=elsewhere)
    git("commit", "--quiet", "--message=Without its past", cwd=elsewhere)
    bench = Bench(elsewhere, trained.folder, trained.old, trained.trained)
    done, reproduced = bench.reproduce()
    assert done.returncode == 1
    (line,) = told(done.stderr)
    assert line.startswith("candlewick reproduce failed: NOT identical: predictions differ in ")
    why = f"commit {trained.old[:7]} is not in this repository"
    why = f"code (that of then is not to be had: {why})"
    assert line.endswith(f"; what differs: {why}")
    assert reproduced.info.status == "FAILED"
    assert reproduced.data.tags["reproduced"] == "false"
    assert reproduced.data.tags["differences"] == why
    folder = bench.recorded.artifacts(reproduced)
    compared = json.loads((folder / "reproduction.json").read_text())["compared"]
    assert compared["differing_rows"] > 0


@pytest.mark.thorough
def test_changes_that_were_never_committed_are_not_taken_for_the_commit(
    trained: Bench,
) -> None:
    head = git("rev-parse", "HEAD", cwd=trained.project)
    change_comment(trained.project)
    try:
        done = trained.step("train", *TRAIN)
        assert done.returncode == 0, done.stderr
    finally:
        git("reset", "--quiet", "--hard", cwd=trained.project)
    uncommitted = trained.recorded.steps("train")[-1]
    bench = Bench(trained.project, trained.folder, head, uncommitted)
    done, reproduced = bench.reproduce()
    assert done.returncode == 0, done.stderr
    assert reproduced.data.tags["reproduced"] == "true", "a remark decides nothing"
    assert reproduced.data.tags["differences"] == (
        f"code (commit {head[:7]} is not all that ran: changes were not committed)"
    )


@pytest.mark.thorough
def test_a_commit_that_only_the_server_has(trained: Bench, tmp_path: Path) -> None:
    """As `mlflow run https://...` leaves it: a clone of one commit, without its past."""
    served = tmp_path / "served"
    served.mkdir()
    git("clone", "--quiet", "--bare", str(trained.project), str(served / "r.git"), cwd=tmp_path)
    git("tag", "old", trained.old, cwd=served / "r.git")
    with serve(git_server(served)) as address:
        uri = f"{address}/r.git"
        typed = ("-v", "old", "-e", "train", "--env-manager", "local")
        given = ("-P", "n_estimators=8", "-P", "early_stopping_rounds=3")
        done = mlflow_run(uri, *typed, *given, cwd=trained.folder)
        assert done.returncode == 0, done.stderr
        original = trained.recorded.steps("train")[-1]
        assert original.data.tags["mlflow.source.name"] == uri
        git("clone", "--quiet", "--depth=1", uri, str(tmp_path / "shallow"), cwd=tmp_path)
        shallow = Bench(tmp_path / "shallow", trained.folder, trained.old, original)
        before = state(shallow.project)
        done, reproduced = shallow.reproduce()
        assert state(shallow.project) == before
    assert done.returncode == 0, done.stderr
    assert f"the code of commit {trained.old[:7]} of {uri}, as recorded" in done.stdout
    assert reproduced.data.tags["reproduced"] == "true"
    assert reproduced.data.tags["differences"] == "none"
    assert shallow.copy_of(reproduced).data.tags["mlflow.source.git.commit"] == trained.old


@pytest.mark.thorough
def test_what_a_host_keeps_of_a_fork_is_not_run(trained: Bench, tmp_path: Path) -> None:
    """The address is to be trusted, and yet whoever opens a pull request may put commits there."""
    served = tmp_path / "served"
    served.mkdir()
    git("clone", "--quiet", "--bare", str(trained.project), str(served / "r.git"), cwd=tmp_path)
    fork = tmp_path / "fork"
    git("clone", "--quiet", str(trained.project), str(fork), cwd=tmp_path)
    with (fork / "steps" / "train.py").open("a") as file:
        file.write(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    foreign = commit(fork)
    git("push", "--quiet", str(served / "r.git"), "HEAD:refs/pull/1/head", cwd=fork)
    with serve(git_server(served)) as address:
        uri = f"{address}/r.git"
        git("clone", "--quiet", uri, str(tmp_path / "ours"), cwd=tmp_path)
        original = trained.step("train", *TRAIN)
        assert original.returncode == 0, original.stderr
        named = trained.recorded.steps("train")[-1]
        for name, value in {
            "code_sha256": "0" * 64,
            "mlflow.source.git.commit": foreign,
            "mlflow.source.name": uri,
        }.items():
            trained.recorded.client.set_tag(named.info.run_id, name, value)
        bench = Bench(tmp_path / "ours", trained.folder, foreign, named)
        done, reproduced = bench.reproduce()
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()
    assert f"{uri}: commit {foreign[:7]} is " in reproduced.data.tags["differences"]
    assert "training with the current code" in done.stdout
