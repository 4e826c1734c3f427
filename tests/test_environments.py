"""One dependency list, two locks, two environment files: they must say the same."""

import ast
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from mlflow.utils.environment import _PythonEnv
from mlflow.utils.virtualenv import _get_virtualenv_name
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
DASK = "steps/engines/requirements-dask"
LISTS = ["requirements.in", f"{DASK}.in", "tests/requirements.in"]
LOCKS = ["requirements.lock", f"{DASK}.lock", "tests/requirements.lock"]


def read_requirements(path: str) -> Iterator[Requirement]:
    for line in (ROOT / path).read_text().splitlines():
        requirement = line.partition("#")[0].strip()
        if requirement and not requirement.startswith("-"):
            yield Requirement(requirement)


def read_lock(path: str) -> list[str]:
    """Return the lock's entries: a requirement and its hashes on one line each."""
    text = (ROOT / path).read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if not line.startswith("#")]


def locked_versions(path: str) -> dict[str, set[str]]:
    versions = defaultdict(set)
    for entry in read_lock(path):
        requirement = Requirement(entry.partition("--hash")[0])
        (pin,) = requirement.specifier
        versions[canonicalize_name(requirement.name)].add(pin.version)
    return versions


def read_yaml(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text())


def conda_dependencies() -> tuple[str, list[str]]:
    """Return conda.yaml's Python version and what it gives to pip."""
    dependencies = read_yaml("conda.yaml")["dependencies"]
    (python,) = (d for d in dependencies if isinstance(d, str) and d.startswith("python="))
    (pip,) = (d["pip"] for d in dependencies if isinstance(d, dict))
    return python.removeprefix("python="), pip


@pytest.mark.parametrize(("wanted", "lock"), list(zip(LISTS, LOCKS, strict=True)))
def test_lock_holds_every_requirement_within_its_bounds(wanted: str, lock: str) -> None:
    locked = locked_versions(lock)
    for requirement in read_requirements(wanted):
        versions = locked[canonicalize_name(requirement.name)]
        assert versions, f"{wanted} asks for {requirement}, {lock} has none: run `make lock`"
        assert all(version in requirement.specifier for version in versions), (
            f"{wanted} asks for {requirement}, {lock} has {versions}: run `make lock`"
        )


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_is_pinned_and_hashed(lock: str) -> None:
    entries = read_lock(lock)
    assert len(entries) > (5 if lock == f"{DASK}.lock" else 50)
    for entry in entries:
        assert re.fullmatch(r"[\w.-]+==[\w.]+( ; [^#]+?)?( +--hash=sha256:[0-9a-f]{64})+", entry)


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_names_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    for trace in ("://", " @ ", "file:", "/", "--index", "--extra-index", "--find-links"):
        assert trace not in text, f"{lock} contains {trace!r}"


def test_locks_agree_on_shared_packages() -> None:
    runtime, *others = map(locked_versions, LOCKS)
    for other in others:
        shared = runtime.keys() & other.keys()
        assert "packaging" in shared
        assert {name: other[name] for name in shared} == {name: runtime[name] for name in shared}


def test_nothing_takes_precedence_over_the_lock() -> None:
    # `mlflow run --env-manager uv` obeys a uv.lock and forgets python_env.yaml.
    assert not [name for name in ("uv.lock", "pylock.toml") if (ROOT / name).exists()]


def test_both_environment_files_install_the_lock() -> None:
    python_env = read_yaml("python_env.yaml")
    assert python_env["dependencies"] == conda_dependencies()[1] == ["-r requirements.lock"]


def test_both_environment_files_use_one_supported_python() -> None:
    python = read_yaml("python_env.yaml")["python"]
    supported = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert python == conda_dependencies()[0]
    assert python in SpecifierSet(supported)
    # Anything less exact sends MLflow's virtualenv manager looking for a newer release.
    assert re.fullmatch(r"\d+\.\d+\.\d+", python)


def test_conda_yaml_changes_with_the_lock() -> None:
    # `mlflow run` names a conda environment after this file's bytes alone.
    digest = hashlib.sha256((ROOT / "requirements.lock").read_bytes()).hexdigest()
    assert f"# requirements.lock sha256: {digest}\n" in (ROOT / "conda.yaml").read_text(), (
        "run `make lock`"
    )


def test_mlflow_names_its_environment_after_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    for name in ("python_env.yaml", "requirements.lock"):
        shutil.copy(ROOT / name, project)
    monkeypatch.chdir(elsewhere)

    environment = _PythonEnv.from_yaml(project / "python_env.yaml")
    before = _get_virtualenv_name(environment, project)
    lock = project / "requirements.lock"
    lock.write_text(lock.read_text().replace("sha256:0", "sha256:1", 1))
    assert _get_virtualenv_name(environment, project) != before


def test_every_imported_package_is_required() -> None:
    required = {canonicalize_name(r.name) for r in read_requirements("requirements.in")}
    extra = {canonicalize_name(r.name) for r in read_requirements(f"{DASK}.in")}
    providers = importlib.metadata.packages_distributions()
    undeclared = {}
    for path in (ROOT / "steps").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [str(node.module)]
            else:
                continue
            for package in {module.partition(".")[0] for module in modules} - {"steps"}:
                owners = {canonicalize_name(name) for name in providers.get(package, [])}
                allowed = required | extra if path.parent.name == "engines" else required
                if package not in sys.stdlib_module_names and not owners & allowed:
                    undeclared[package] = str(path.relative_to(ROOT))
    assert not undeclared, "add them to requirements.in and run `make lock`"


# conda-lock.yml: checking it needs no solver, writing it does; so a stand-in for conda plays one.

STAND_IN = """\
#!{python}
import json, sys
if sys.argv[1] == "--version":
    print("conda 25.1.0")
elif {solves}:
    print(json.dumps({{"actions": {{"LINK": [], "FETCH": {packages}}}}}))
else:
    sys.exit("asked to solve")
"""
PACKAGES = [
    {
        "name": name,
        "version": version,
        "url": f"https://conda.example/conda-forge/noarch/{name}-{version}-0.conda",
        "md5": "0" * 32,
        "sha256": "0" * 64,
        "depends": [],
    }
    for name, version in [("python", "3.11.7"), ("pip", "26.1")]
]


def conda_lock(
    folder: Path, *, solves: bool, platforms: list[str]
) -> subprocess.CompletedProcess[str]:
    """Run conda-lock on `folder`, re-solving only what changed since the lock was written."""
    stand_in = folder / "conda"
    stand_in.write_text(
        STAND_IN.format(python=sys.executable, solves=solves, packages=json.dumps(PACKAGES))
    )
    stand_in.chmod(0o755)
    return subprocess.run(
        [
            *(sys.executable, "-m", "conda_lock", "lock", "--check-input-hash"),
            *("--conda", str(stand_in), "--file", "conda.yaml", "--lockfile", "conda-lock.yml"),
            *(f"--platform={platform}" for platform in platforms),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_conda_lock_check_notices_a_changed_conda_yaml(tmp_path: Path) -> None:
    platforms = ["linux-64", "osx-arm64"]
    conda_yaml = tmp_path / "conda.yaml"
    shutil.copy(ROOT / "conda.yaml", conda_yaml)
    written = conda_lock(tmp_path, solves=True, platforms=platforms)
    assert (tmp_path / "conda-lock.yml").exists(), written.stderr

    unchanged = conda_lock(tmp_path, solves=False, platforms=platforms)
    assert unchanged.returncode == 0, unchanged.stderr
    assert "already locked" in unchanged.stderr

    conda_yaml.write_text(conda_yaml.read_text().replace("- pip\n", "- pip>=24\n"))
    assert conda_lock(tmp_path, solves=False, platforms=platforms).returncode != 0


def test_a_conda_lock_is_up_to_date_where_there_is_one(tmp_path: Path) -> None:
    if not (ROOT / "conda-lock.yml").exists():
        return  # `make conda-lock` writes it; the test above proves that the check detects drift
    for name in ("conda.yaml", "conda-lock.yml"):
        shutil.copy(ROOT / name, tmp_path)
    platforms = read_yaml("conda-lock.yml")["metadata"]["platforms"]
    checked = conda_lock(tmp_path, solves=False, platforms=platforms)
    assert checked.returncode == 0, f"conda.yaml changed: run `make conda-lock`\n{checked.stderr}"


# The Makefile


def make(
    *arguments: str, cwd: Path = ROOT, path: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run make with `path` as PATH and none of the caller's own make or MLflow settings."""
    program = shutil.which("make")
    assert program, "make is not on PATH"
    return subprocess.run(
        [program, *arguments],
        cwd=cwd,
        env={"PATH": path, "HOME": os.environ.get("HOME", "/"), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_conda_lock_without_conda_says_what_is_missing(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    done = make("conda-lock", cwd=tmp_path)
    assert done.returncode != 0
    assert "needs conda, mamba or micromamba on PATH" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["Makefile"]


def test_unsuitable_python_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    done = make(".venv/.created", "PYTHON=/bin/false", cwd=tmp_path, path=os.defpath)
    assert done.returncode != 0
    assert "needs Python 3.11, 3.12 or 3.13; tried: /bin/false" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["Makefile"]


@pytest.mark.parametrize("typed", ["max_depth=3 prices=a&b", "-P max_depth=3 -P prices=a&b"])
def test_make_run_passes_parameters_on(typed: str) -> None:
    command = make("--dry-run", "--assume-old=.venv/.runtime", "run", f"P={typed}").stdout
    assert "--entry-point main --run-name main --experiment-name stock_prediction " in command
    assert command.rstrip().endswith(" -P 'max_depth=3' -P 'prices=a&b'")


@pytest.mark.parametrize("variable", ["MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"])
def test_make_run_leaves_the_caller_s_experiment_alone(variable: str) -> None:
    command = make("--dry-run", "--assume-old=.venv/.runtime", "run", **{variable: "7"}).stdout
    assert " run . " in command
    assert "--experiment-name" not in command
