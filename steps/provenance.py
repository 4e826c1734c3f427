"""Which code and which environment a result comes from, and a commit's code once more."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

LIBRARIES: Final = (
    *("xgboost", "scikit-learn", "numpy", "scipy", "pandas", "pyarrow", "TA-Lib"),
    *("mlflow", "skops"),
)
"""What decides a result: another version may give other bits, or store them otherwise."""

_STEPS: Final = Path(__file__).resolve().parent
_ELSEWHERE: Final = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")


class CommitNotFoundError(LookupError):
    """A commit's code is not to be had here; the message says why."""


def code_sha256(folder: Path = _STEPS) -> str:
    """Return the SHA-256 over the names and bytes of all modules in a folder and below it.

    It is equal wherever Python reads the same program: paths are written with ``/``, and lines end
    as on Unix. Files that cannot be imported, such as an editor's copies, do not count.

    Parameters
    ----------
    folder : Path
        Default: this package, ``steps``.
    """
    modules = {file.relative_to(folder): file for file in folder.rglob("*.py")}
    contents = {
        name.as_posix(): file.read_bytes().replace(b"\r\n", b"\n")
        for name, file in modules.items()
        if all(part.isidentifier() for part in name.with_suffix("").parts)
    }
    digest = hashlib.sha256()
    for name in sorted(contents):
        digest.update(f"{name}\0{hashlib.sha256(contents[name]).hexdigest()}\n".encode())
    return digest.hexdigest()


def environment() -> dict[str, Any]:
    """Return what else decides a result: Python, the machine, and the libraries' versions.

    Returns
    -------
    dict
        JSON-able: ``python``, ``implementation``, ``system``, ``machine``, ``cores`` (as many
        threads as ``n_jobs=0`` takes), and each of `LIBRARIES`.
    """
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        **{name: _version(name) for name in LIBRARIES},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def changes(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say what differs between two environments.

    Examples
    --------
    >>> changes({"python": "3.11.7", "xgboost": "3.2.0"}, {"python": "3.11.7", "xgboost": "3.1.0"})
    ['xgboost 3.2.0 -> 3.1.0']
    """
    return [
        f"{name} {was.get(name, 'not recorded')} -> {now.get(name, 'not recorded')}"
        for name in (*was, *(name for name in now if name not in was))
        if was.get(name) != now.get(name)
    ]


@contextmanager
def code_at(commit: str, project: Path, subfolder: str = "") -> Iterator[Path]:
    """Yield a temporary folder that holds a project as it is in a commit.

    The project's repository is only read: its working tree, index, branches and worktrees stay as
    they are, even where this is killed half way.

    Parameters
    ----------
    commit : str
        A full commit ID. It has to be in what is checked out, or in a branch or a tag: a
        repository also holds commits that nobody has taken into it.
    project : Path
        A folder of the repository; that folder, as it is in the commit, is what is yielded.
    subfolder : str
        The project's place below `project`, with ``/``; for a repository that has no files.

    Raises
    ------
    CommitNotFoundError
        If there is no git, no repository, or no such commit in it.
    """
    _check_id(commit)
    _git(project, "rev-parse", "--git-dir")
    try:
        _git(project, "cat-file", "-e", f"{commit}^{{commit}}")
    except CommitNotFoundError:
        raise CommitNotFoundError(f"commit {commit[:7]} is not in this repository") from None
    if not _is_contained(commit, project):
        raise CommitNotFoundError(
            f"commit {commit[:7]} is in no branch or tag of this repository, so it may be anybody's"
        )
    with tempfile.TemporaryDirectory(prefix="candlewick-") as folder:
        archive, code = Path(folder, "code.zip"), Path(folder, "candlewick")
        tree = f"{commit}:{subfolder}" if subfolder else commit
        _git(project, "archive", "--format=zip", f"--output={archive}", tree)
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(code)
        yield code


@contextmanager
def code_of(commit: str, address: str) -> Iterator[Path]:
    """Yield a temporary folder that holds a project as it is in a commit of another repository.

    Of that repository only the branches and tags are had: a server also hands out commits of forks
    and pull requests to whoever asks for them by their ID.

    Parameters
    ----------
    commit : str
        A full commit ID.
    address : str
        The repository, as git takes it; the project's folder in it, if any, follows ``#``.

    Raises
    ------
    CommitNotFoundError
        If there is no git, no such repository, or no such commit in it.
    """
    _check_id(commit)
    repository, _, subfolder = address.partition("#")
    with tempfile.TemporaryDirectory(prefix="candlewick-") as folder:
        # Files are left for later where the server can do so: `archive` fetches those it needs.
        options = ("--quiet", "--bare", "--filter=blob:none", "--template=")
        _git(Path(folder), "clone", *options, "--", repository, "clone.git")
        with code_at(commit, Path(folder, "clone.git"), subfolder) as code:
            yield code


def _check_id(commit: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit):  # anything else might be an option to git
        raise CommitNotFoundError(f"{commit!r} is no commit ID")


def _is_contained(commit: str, repository: Path) -> bool:
    try:
        # A clone such as MLflow makes has neither branches nor tags, but something checked out.
        _git(repository, "merge-base", "--is-ancestor", commit, "HEAD")
    except CommitNotFoundError:
        places = ("refs/heads", "refs/remotes", "refs/tags")
        return bool(_git(repository, "for-each-ref", "--contains", commit, *places))
    return True


def git_remotes(project: Path) -> set[str]:
    """Return the addresses of the remotes of a project's repository; none where there is none."""
    try:
        listed = _git(project, "config", "--get-regexp", r"^remote\..*\.url$")
    except CommitNotFoundError:
        return set()
    return {line.partition(" ")[2] for line in listed.splitlines()}


def _git(project: Path, *arguments: str) -> str:
    git = shutil.which("git")
    if git is None:
        raise CommitNotFoundError("git is not installed")
    # A hook's own repository must not be taken for the project's.
    here = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    done = subprocess.run(  # noqa: S603 (fixed commands, and a checked commit ID)
        [git, "-c", f"core.hooksPath={os.devnull}", *arguments],
        cwd=project,
        env={**here, "GIT_TERMINAL_PROMPT": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"git {arguments[0]} failed"]
        raise CommitNotFoundError(said[0].removeprefix("fatal: "))
    return done.stdout
