"""Hashes of code, facts of the environment, and a commit's files without a checkout."""

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from steps.provenance import (
    LIBRARIES,
    CommitNotFoundError,
    changes,
    code_at,
    code_of,
    code_sha256,
    environment,
    git_remotes,
)

ROOT = Path(__file__).resolve().parents[1]
KNOWN = "9786d300de90b2dbd341a7fd71abbb1946e4c9db4b73a4e022c3693af3bf7454"


def git(*arguments: str, cwd: Path) -> str:
    someone = ("-c", "user.name=Somebody", "-c", "user.email=somebody@localhost")
    done = subprocess.run(
        ["git", *someone, *arguments], cwd=cwd, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return folder


# -- the code ------------------------------------------------------------------------------------


def test_the_hash_is_written_down_for_a_known_folder(tmp_path: Path) -> None:
    """KNOWN is from sha256sum: of each file, then of the lines `name NUL hash`."""
    code = write(tmp_path / "code", train="x = 1\n", market__prices="")
    assert code_sha256(code) == KNOWN


def test_places_line_ends_and_files_that_are_no_modules_do_not_count(tmp_path: Path) -> None:
    code = write(tmp_path / "here", train="x = 1\ny = 2\n", market__prices="z = 3\n")
    there = write(tmp_path / "there" / "deep", market__prices="z = 3\r\n", train="x = 1\r\ny = 2\n")
    (there / "notes.txt").write_text("x")
    write(there, **{".ipynb_checkpoints__train-checkpoint": "x = 1\n"})
    assert code_sha256(there) == code_sha256(code)


@pytest.mark.parametrize(
    "files",
    [
        {"train": "x = 2\n", "market__prices": "z = 3\n"},
        {"train": "x = 1\n", "market__price": "z = 3\n"},
        {"train": "x = 1\n", "learning__prices": "z = 3\n"},
        {"train": "z = 3\n", "market__prices": "x = 1\n"},
        {"train": "x = 1\n"},
        {"train": "x = 1\n", "market__prices": "z = 3\n", "empty": ""},
        {"train": "x = 1\nz = 3\n", "market__prices": ""},
    ],
)
def test_every_byte_name_and_place_counts(tmp_path: Path, files: dict[str, str]) -> None:
    code = write(tmp_path / "code", train="x = 1\n", market__prices="z = 3\n")
    assert code_sha256(write(tmp_path / "other", **files)) != code_sha256(code)


def test_by_default_it_is_the_code_that_runs() -> None:
    assert code_sha256() == code_sha256(ROOT / "steps")


# -- the environment -----------------------------------------------------------------------------


def test_the_environment_is_the_one_that_runs() -> None:
    found = environment()
    assert {name: found[name] for name in LIBRARIES} == {name: version(name) for name in LIBRARIES}
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["implementation"].lower() == sys.implementation.name
    assert found["machine"] == os.uname().machine if hasattr(os, "uname") else platform.machine()
    assert found["cores"] == os.cpu_count()


def test_a_library_that_is_missing_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steps.provenance.LIBRARIES", ("numpy", "no-such-library"))
    assert environment()["no-such-library"] == "not installed"


def test_asking_costs_no_import_of_a_library(run_python: object) -> None:
    script = (
        "import sys; from steps.provenance import code_sha256, environment; code_sha256();"
        "environment(); print(*{'numpy', 'mlflow', 'xgboost', 'sklearn', 'git'} & set(sys.modules))"
    )
    done = run_python("-c", script)  # type: ignore[operator]
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_changes_name_what_came_and_what_went() -> None:
    was = {"python": "3.11.7", "xgboost": "3.2.0", "scipy": "1.16.0", "cores": 8}
    now = {"python": "3.11.7", "xgboost": "3.1.0", "cores": 2, "skops": "0.13"}
    assert changes(was, now) == [
        "xgboost 3.2.0 -> 3.1.0",
        "scipy 1.16.0 -> not recorded",
        "cores 8 -> 2",
        "skops not recorded -> 0.13",
    ]
    assert changes(was, dict(reversed(was.items()))) == []


# -- a commit's files ----------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose project lies in a folder of it, with changes of all kinds under way."""
    project = tmp_path / "repository" / "recipe"
    write(project, train="old\n")
    git("init", "--quiet", "--initial-branch=main", cwd=project.parent)
    git("add", "--all", cwd=project)
    git("commit", "--quiet", "--message=Old", cwd=project)
    git("tag", "old", cwd=project)
    write(project, train="new\n", added="")
    git("add", "--all", cwd=project)
    git("commit", "--quiet", "--message=New", cwd=project)
    write(project, train="not committed\n", staged="")
    git("add", "recipe/staged.py", cwd=project.parent)
    write(project, untracked="")
    return project


def state(project: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in project.parent.rglob("*") if path.is_file()}


def test_a_commit_is_looked_at_without_a_trace(repository: Path) -> None:
    old = git("rev-parse", "old", cwd=repository)
    before = state(repository)
    with code_at(old, repository) as folder:
        found = {path.name: path.read_text() for path in folder.iterdir()}
        assert repository not in folder.parents
    assert found == {"train.py": "old\n"}
    assert not folder.exists()
    assert state(repository) == before


def test_a_hook_of_another_repository_does_not_mislead(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = git("rev-parse", "old", cwd=repository)
    git("init", "--quiet", "other", cwd=tmp_path)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    with code_at(old, repository) as folder:
        assert (folder / "train.py").read_text() == "old\n"


def test_why_a_commit_is_not_to_be_had(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = git("rev-parse", "HEAD", cwd=repository)
    for commit, why in (
        ("0" * 40, "^commit 0000000 is not in this repository$"),
        ("main", "'main' is no commit ID"),
        (f"--output={repository}/train.py", "is no commit ID"),
    ):
        with pytest.raises(CommitNotFoundError, match=why), code_at(commit, repository):
            pass
    shutil.rmtree(repository.parent / ".git")
    with pytest.raises(CommitNotFoundError, match="not a git repo"), code_at(head, repository):
        pass
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CommitNotFoundError, match="git is not inst"), code_at(head, repository):
        pass


def leave_behind(project: Path) -> str:
    """Make a commit as a host keeps those of forks: its objects are there, in no branch or tag."""
    git("checkout", "--quiet", "--force", "-b", "fork", cwd=project)
    write(project, train="foreign\n")
    git("commit", "--quiet", "--all", "--message=Foreign", cwd=project)
    foreign = git("rev-parse", "HEAD", cwd=project)
    git("checkout", "--quiet", "--force", "main", cwd=project)
    git("update-ref", "refs/pull/1/head", foreign, cwd=project)
    git("branch", "--quiet", "-D", "fork", cwd=project)
    return foreign


def test_a_commit_that_nobody_took_in_is_not_taken(repository: Path) -> None:
    foreign = leave_behind(repository)
    why = f"commit {foreign[:7]} is in no branch or tag"
    with pytest.raises(CommitNotFoundError, match=why), code_at(foreign, repository):
        pass


@pytest.mark.parametrize("place", ["refs/heads/a", "refs/remotes/origin/a", "refs/tags/a"])
def test_a_commit_in_any_branch_or_tag_is_taken(repository: Path, place: str) -> None:
    foreign = leave_behind(repository)
    git("update-ref", place, foreign, cwd=repository)
    with code_at(foreign, repository) as folder:
        assert (folder / "train.py").read_text() == "foreign\n"


def test_what_is_checked_out_is_taken_even_from_a_clone_as_mlflow_makes_it(
    repository: Path, tmp_path: Path
) -> None:
    head = git("rev-parse", "HEAD", cwd=repository)
    clone = tmp_path / "clone"
    git("init", "--quiet", str(clone), cwd=tmp_path)
    address = repository.parent.as_uri()
    git("fetch", "--quiet", "--no-tags", "--depth=1", address, head, cwd=clone)
    git("checkout", "--quiet", head, cwd=clone)
    assert git("for-each-ref", cwd=clone) == ""
    with code_at(head, clone / "recipe") as folder:
        assert (folder / "train.py").read_text() == "new\n"


# -- a commit's files, from elsewhere ------------------------------------------------------------


@pytest.mark.parametrize("filters", ["true", "false"])
def test_a_commit_of_a_server_is_had_without_a_trace(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filters: str
) -> None:
    git("config", "uploadpack.allowFilter", filters, cwd=repository)
    old = git("rev-parse", "old", cwd=repository)
    before = state(repository)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with code_of(old, f"{repository.parent.as_uri()}#recipe") as folder:
        assert {path.name: path.read_text() for path in folder.iterdir()} == {"train.py": "old\n"}
    with code_of(old, repository.parent.as_uri()) as folder:
        assert (folder / "recipe" / "train.py").read_text() == "old\n"
    assert list(temporary.iterdir()) == []
    assert state(repository) == before


@pytest.mark.parametrize("filters", ["true", "false"])
def test_a_server_is_not_asked_for_what_is_in_no_branch_or_tag(
    repository: Path, filters: str
) -> None:
    """Though it would hand it out."""
    for name in ("allowFilter", "allowAnySHA1InWant"):
        git("config", f"uploadpack.{name}", filters, cwd=repository)
    foreign, address = leave_behind(repository), repository.parent.as_uri()
    with (
        pytest.raises(CommitNotFoundError, match=f"^commit {foreign[:7]} is (not in this|in no)"),
        code_of(foreign, address),
    ):
        pass


def test_what_is_no_commit_id_or_no_repository(repository: Path, tmp_path: Path) -> None:
    for commit, address, why in (
        ("main", repository.parent.as_uri(), "'main' is no commit ID"),
        ("0" * 39, repository.parent.as_uri(), "is no commit ID"),
        ("0" * 40, repository.parent.as_uri(), "commit 0000000 is not in this repository"),
        ("0" * 40, (tmp_path / "gone").as_uri(), "gone' does not exist|not appear to be a git"),
        ("0" * 40, "ext::touch ran", "transport 'ext' not allowed"),
        ("0" * 40, "--upload-pack=touch ran", "does not exist"),
    ):
        with pytest.raises(CommitNotFoundError, match=why), code_of(commit, address):
            pass
    old = git("rev-parse", "old", cwd=repository)
    with pytest.raises(CommitNotFoundError), code_of(old, f"{repository.parent.as_uri()}#gone"):
        pass


def test_no_hook_runs(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = tmp_path / "template" / "hooks" / "reference-transaction"
    hook.parent.mkdir(parents=True)
    hook.write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\n")
    hook.chmod(0o755)
    (tmp_path / "config").write_text(f"[core]\n\thooksPath = {hook.parent}\n")
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(tmp_path / "template"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    address = repository.parent.as_uri()
    git("clone", "--quiet", "--bare", address, str(tmp_path / "clone"), cwd=tmp_path)
    (tmp_path / "ran").unlink()  # the trap works
    with code_of(git("rev-parse", "old", cwd=repository), address):
        pass
    assert not (tmp_path / "ran").exists()


def test_remotes(repository: Path, tmp_path: Path) -> None:
    assert git_remotes(repository) == set()
    git("remote", "add", "origin", "https://git.example/a recipe.git", cwd=repository)
    git("remote", "add", "fork.url", "git@git.example:fork", cwd=repository)
    assert git_remotes(repository) == {"https://git.example/a recipe.git", "git@git.example:fork"}
    assert git_remotes(tmp_path) == set()
