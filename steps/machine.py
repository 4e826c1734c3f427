"""What is well and what is not on the machine that steps run on: Python, packages, room."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Final

from packaging.markers import Marker
from packaging.specifiers import SpecifierSet

from steps.tracking.diagnosis import Finding, Status

_ENOUGH: Final = 1_000_000_000  # bytes: a run with a large snapshot takes some hundred million
_TOO_LITTLE: Final = 100_000_000
_NAMED: Final = 3


def look_at_python(project: Path) -> Finding:
    """Compare this Python with what the project asks for."""
    wanted = tomllib.loads((project / "pyproject.toml").read_text())["project"]["requires-python"]
    found = f"{python_version()}, {sys.executable}"
    if SpecifierSet(wanted).contains(python_version(), prereleases=True):
        return Finding("python", "well", found)
    return Finding(
        "python",
        "bad",
        f"{found}; the project needs {wanted}",
        "`make run` makes an environment with another one (`make PYTHON=python3.12 run`)",
    )


def look_at_environment(prefix: Path = Path(sys.prefix)) -> Finding:
    """Say which environment manager made this environment, and which `mlflow run` could use."""
    kind = environment_kind(prefix)
    able = {
        "local": True,
        "uv": bool(shutil.which("uv")),
        "virtualenv": bool(shutil.which("pyenv")),
        "conda": any(map(shutil.which, ("conda", "mamba", "micromamba"))),
    }
    names = ", ".join(name for name, is_there in able.items() if is_there)
    found = f"{kind}; `mlflow run --env-manager` can be {names}"
    if kind == "the system's Python":
        return Finding(
            "environment",
            "warning",
            found,
            "`make run` makes an environment of its own, .venv",
        )
    if names == "local":
        found += " (virtualenv, its default, needs pyenv)"
    return Finding("environment", "well", found)


def environment_kind(prefix: Path) -> str:
    """Say what made the Python environment in a folder."""
    if (prefix / "conda-meta").is_dir():
        return "made by conda"
    try:
        written = (prefix / "pyvenv.cfg").read_text()
    except OSError:
        return "the system's Python"
    for maker in ("uv", "virtualenv"):
        if re.search(rf"^{maker}\s*=", written, re.MULTILINE):
            return f"made by {maker}"
    return "made by venv"


def look_at_packages(lock: Path) -> Finding:
    """Compare the installed packages with a lock file."""
    wanted = locked_versions(lock.read_text())
    missing, other = [], []
    for name, locked in wanted.items():
        try:
            installed = version(name)
        except PackageNotFoundError:
            missing.append(name)
            continue
        if installed != locked:
            other.append(f"{name} {installed} instead of {locked}")
    if not missing and not other:
        return Finding("packages", "well", f"all {len(wanted)} as in {lock.name}")
    found = [
        *([f"not installed: {_some(missing)}"] if missing else []),
        *([_some(other)] if other else []),
    ]
    status: Status = "bad" if missing else "warning"
    return Finding("packages", status, "; ".join(found), f"`pip install -r {lock}`")


def locked_versions(text: str) -> dict[str, str]:
    """Return the versions that a lock file asks for on this machine.

    Examples
    --------
    >>> locked_versions("numpy==2.4.1 ; sys_platform != 'no such system'")
    {'numpy': '2.4.1'}
    """
    found = {}
    for line in text.splitlines():
        if match := re.match(r"([\w.-]+)(?:\[.*\])?==(\S+)\s*(?:;([^\\]*))?", line):
            name, locked, marker = match.groups()
            if marker is None or Marker(marker.strip()).evaluate():
                found[name] = locked
    return found


def look_at_disk(folders: Mapping[str, Path]) -> Finding:
    """Look for room where things are written.

    Parameters
    ----------
    folders : mapping of str to Path
        By what they are for; they need not exist yet.
    """
    free: dict[int, tuple[int, list[str]]] = {}
    for purpose, folder in {**folders, "temporary files": Path(tempfile.gettempdir())}.items():
        place = folder.absolute()
        while not place.exists():
            place = place.parent
        room = shutil.disk_usage(place).free
        free.setdefault(place.stat().st_dev, (room, []))[1].append(f"{purpose} ({folder})")
    least, users = min(free.values())
    found = "; ".join(f"{_size(room)} for {', '.join(names)}" for room, names in free.values())
    if least >= _ENOUGH:
        return Finding("disk", "well", found)
    return Finding(
        "disk",
        "bad" if least < _TOO_LITTLE else "warning",
        found,
        f"make room for {_some([user.partition(' (')[0] for user in users])}; TMPDIR and "
        "CANDLEWICK_STATE name other folders for temporary files and state",
    )


def _size(room: int) -> str:
    return f"{room / 1e9:.1f} GB" if room >= _ENOUGH else f"{room / 1e6:.0f} MB"


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
