"""deploy/: what can be said of it without a container engine, a cluster and a workspace."""

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from configparser import ConfigParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import yaml
from conftest import ROOT, clean_environment
from deploying.compose import DEPLOY, RefusedError, services
from deploying.http_api import Answer, Asked, answering
from end_to_end.recipe import copy_project

COMPOSE = (DEPLOY / "compose.yaml").read_text()
NEEDED = sorted(set(re.findall(r"\$\{(\w+):\?", COMPOSE)))
VALUES = {name: f"value-of-{name}" for name in NEEDED}

STRINGS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
TIME = {"type": "string", "pattern": r"^\d+(s|m)$"}
SERVICE = {
    "type": "object",
    "additionalProperties": False,
    "required": [
        *("image", "restart", "init", "read_only", "cap_drop", "security_opt", "logging"),
        *("environment", "networks"),
    ],
    "properties": {
        "image": {"type": "string", "pattern": r"^[\w/-]+:\d+(\.\d+)+(-\w+)?$"},
        "build": {
            "type": "object",
            "additionalProperties": False,
            "required": ["context", "dockerfile"],
            "properties": {"context": {"type": "string"}, "dockerfile": {"type": "string"}},
        },
        "user": {"type": "string", "not": {"pattern": "^(root|0)"}},
        "command": STRINGS,
        "environment": {"type": "object", "additionalProperties": {"type": "string"}},
        "volumes": {
            "type": "array",
            "items": {"type": "string", "pattern": r"^(\./[\w.]+:/[\w/.]+:ro|\w+:/[\w/]+)$"},
        },
        "tmpfs": STRINGS,
        "networks": STRINGS,
        "ports": {"type": "array", "items": {"pattern": r"^[\d.]+:\d+:\d+$"}},
        "restart": {"enum": ["no", "unless-stopped"]},
        "init": {"const": True},
        "read_only": {"const": True},
        "cap_drop": {"const": ["ALL"]},
        "security_opt": {"const": ["no-new-privileges:true"]},
        "stop_grace_period": TIME,
        "logging": {
            "type": "object",
            "required": ["driver", "options"],
            "properties": {"options": {"required": ["max-size", "max-file"]}},
        },
        "depends_on": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["condition"],
                "properties": {
                    "condition": {"enum": ["service_healthy", "service_completed_successfully"]}
                },
            },
        },
        "healthcheck": {
            "type": "object",
            "additionalProperties": False,
            "required": ["test", "interval", "timeout", "retries", "start_period"],
            "properties": {
                "test": {**STRINGS, "prefixItems": [{"const": "CMD"}]},
                "retries": {"type": "integer"},
                **dict.fromkeys(("interval", "timeout", "start_period", "start_interval"), TIME),
            },
        },
    },
}
FILE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "services", "networks", "volumes"],
    "patternProperties": {"^x-": {}},
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z]+$"},
        "services": {"type": "object", "additionalProperties": SERVICE},
        "networks": {
            "type": "object",
            "additionalProperties": {"properties": {"internal": {"type": "boolean"}}},
        },
        "volumes": {"type": "object", "additionalProperties": {"const": {}}},
    },
}
"""The parts of the Compose specification that compose.yaml uses, as strict as we want them."""


def compose_file() -> dict[str, Any]:
    file = yaml.safe_load(COMPOSE)
    return {**file, "services": services(VALUES)}


def test_compose_file_is_one() -> None:
    jsonschema.validate(compose_file(), FILE, cls=jsonschema.Draft202012Validator)


def test_compose_file_names_only_what_it_declares() -> None:
    file = compose_file()
    for service in file["services"].values():
        assert set(service["networks"]) <= set(file["networks"])
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in file["volumes"] or (DEPLOY / source).is_file(), volume
        for other, how in service.get("depends_on", {}).items():
            checked = "healthcheck" in file["services"][other]
            assert checked == (how["condition"] == "service_healthy")
        if "build" in service:
            assert (DEPLOY / service["build"]["context"]).resolve() == ROOT
            assert (ROOT / service["build"]["dockerfile"]).is_file()


def test_only_mlflow_is_published_and_on_this_host_alone() -> None:
    file = compose_file()
    published = {name: each["ports"] for name, each in file["services"].items() if "ports" in each}
    assert published == {"mlflow": ["127.0.0.1:5000:5000"]}
    assert file["networks"]["stores"]["internal"]
    for name in ("postgres", "s3", "prepare"):
        assert file["services"][name]["networks"] == ["stores"]


@pytest.mark.parametrize("name", NEEDED)
def test_nothing_starts_while_a_password_is_empty(name: str) -> None:
    with pytest.raises(RefusedError, match=name):
        services({**VALUES, name: ""})


@pytest.mark.skipif(shutil.which("docker") is None, reason="no docker client on this machine")
@pytest.mark.parametrize("name", NEEDED)
def test_docker_itself_refuses_an_empty_password(name: str) -> None:
    """Its client interpolates without an engine, and then, being no Compose, finds other faults."""
    command = ["docker", "stack", "config", "--compose-file", str(DEPLOY / "compose.yaml")]
    environment = {**clean_environment(), **VALUES}
    all_set, one_empty = (
        subprocess.run(command, env=given, capture_output=True, text=True, check=False).stderr
        for given in (environment, {**environment, name: ""})
    )
    assert f"required variable {name} is missing a value: set it in deploy/.env" in one_empty
    assert "is missing a value" not in all_set


def test_every_secret_is_one_that_must_be_set() -> None:
    plain = yaml.safe_load(COMPOSE)["services"]
    secret = re.compile("PASSWORD|SECRET|ACCESS_KEY")
    seen = set()
    for service in plain.values():
        for name, value in service["environment"].items():
            if secret.search(name):
                assert re.fullmatch(r"\$\{\w+:\?.+\}", value), name
                seen.add(value)
        for part in ("command", "healthcheck"):
            words = json.dumps(service.get(part, ""))
            assert set(re.findall(r"\$\{(\w+)", words)) <= {"MLFLOW_WORKERS"}, part
    assert len(seen) == len(NEEDED)


def test_the_example_has_every_name_and_no_value() -> None:
    lines = (DEPLOY / "env.example").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if re.match(r"\w+=", line))
    assert given == dict.fromkeys(NEEDED, "")
    offered = set(re.findall(r"^#(\w+)=", "\n".join(lines), flags=re.MULTILINE))
    assert offered == set(re.findall(r"\$\{(\w+):-", COMPOSE))


@pytest.mark.parametrize("name", ["basic_auth.ini", "make_server.ini"])
def test_users_see_and_nothing_else_by_default(name: str) -> None:
    auth = ConfigParser()
    auth.read(DEPLOY / name)
    assert auth["mlflow"]["default_permission"] == "READ"
    assert "admin_password" not in auth["mlflow"]
    assert not re.search(r"//[^/]*:[^/]*@", auth["mlflow"]["database_uri"])


def test_the_image_takes_locked_packages_and_nothing_of_the_readers() -> None:
    dockerfile = (DEPLOY / "mlflow.Dockerfile").read_text()
    assert re.search(r"^FROM python:3\.11\.\d+-slim-\w+$", dockerfile, flags=re.MULTILINE)
    assert "--require-hashes" in dockerfile
    copied = re.findall(r"^COPY (?:--\S+ )?(\S+) ", dockerfile, flags=re.MULTILINE)
    let_in = (DEPLOY / "mlflow.Dockerfile.dockerignore").read_text().split("\n*\n")[1].split()
    assert let_in == [f"!{name}" for name in copied]
    assert all((ROOT / name).is_file() for name in copied)
    assert re.search(r"^USER 10001:10001$", dockerfile, flags=re.MULTILINE)


def test_a_pod_runs_as_the_images_user_and_keeps_what_it_could_not_send() -> None:
    template = yaml.safe_load((DEPLOY / "kubernetes" / "job-template.yaml").read_text())
    namespace, claim = yaml.safe_load_all((DEPLOY / "kubernetes" / "state.yaml").read_text())
    pod = template["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsUser"] == 10001
    assert template["metadata"]["namespace"] == namespace["metadata"]["name"]
    assert claim["metadata"]["namespace"] == namespace["metadata"]["name"]
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert volumes["state"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    (container,) = pod["containers"]
    mounted = {each["mountPath"] for each in container["volumeMounts"]}
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert {variables["HOME"], variables["CANDLEWICK_STATE"]} == mounted
    config = json.loads((DEPLOY / "kubernetes" / "backend-config.json").read_text())
    assert (ROOT / config["kube-job-template-path"]).is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kinds"),
    [("job-template.yaml", ["V1Job"]), ("state.yaml", ["V1Namespace", "V1PersistentVolumeClaim"])],
)
def test_kubernetes_knows_every_field(name: str, kinds: list[str]) -> None:
    """Its client's types, generated from the published API, drop what they do not know."""
    from kubernetes.client import ApiClient

    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text()))
    for kind, document in zip(kinds, documents, strict=True):
        as_answer = SimpleNamespace(data=json.dumps(document))
        known = ApiClient().deserialize(as_answer, kind)
        assert ApiClient().sanitize_for_serialization(known) == document


@pytest.mark.slow
def test_make_server_does_not_start_without_an_admins_password(in_empty_folder: Path) -> None:
    shutil.copy(ROOT / "Makefile", in_empty_folder)
    environment = clean_environment()
    done = subprocess.run(
        ["make", "--old-file=.venv/.runtime", "server", "AUTH=1", "PORT=1"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("make server AUTH=1: set MLFLOW_AUTH_ADMIN_PASSWORD")
    assert (in_empty_folder / "server" / "secret_key").stat().st_mode & 0o777 == 0o600


class Workspace:
    """As much of Databricks as MLflow speaks to: files, and runs that are submitted."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.submitted: list[dict[str, Any]] = []

    def answer(self, asked: Asked) -> Answer:
        if asked.path == "/api/2.0/dbfs/get-status":
            return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST"}
        if asked.path.startswith("/dbfs/"):
            self.files[asked.path] = asked.body
            return 200, {}
        if asked.path == "/api/2.0/jobs/runs/submit":
            self.submitted.append(asked.json())
            return 200, {"run_id": 7}
        return 404, {}


@pytest.mark.slow
def test_databricks_is_sent_the_project_and_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    from mlflow.projects.databricks import DatabricksJobRunner, before_run_validations

    project = copy_project(tmp_path / "candlewick")
    spec = json.loads((DEPLOY / "databricks" / "cluster-spec.json").read_text())
    before_run_validations("https://mlflow.example.org", spec)
    mlflow.set_tracking_uri("https://mlflow.example.org")
    workspace = Workspace()
    for name in [name for name in os.environ if name.startswith("DATABRICKS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_ENABLE_DB_SDK", "false")
    with answering(workspace.answer) as address:
        monkeypatch.setenv("DATABRICKS_HOST", f"http://{address}")
        monkeypatch.setenv("DATABRICKS_TOKEN", "token")
        DatabricksJobRunner(None).run_databricks(
            str(project), "train", str(project), {"max_depth": "3"}, "5", spec, "a" * 32, "uv"
        )
    ((name, archive),) = workspace.files.items()
    assert name.startswith("/dbfs/mlflow-experiments/5/projects-code/")
    with tarfile.open(fileobj=io.BytesIO(archive)) as sent:
        assert "mlflow-project/MLproject" in sent.getnames()
    (job,) = workspace.submitted
    assert job["new_cluster"] == spec["new_cluster"]
    libraries = [library["pypi"]["package"] for library in job["libraries"]]
    assert libraries == [spec["libraries"][0]["pypi"]["package"], f"mlflow=={mlflow.__version__}"]
    *_, command = job["shell_command_task"]["command"]
    assert "--entry-point train --env-manager uv" in command
    assert "-P max_depth=3" in command
    assert job["shell_command_task"]["env_vars"] == {
        "MLFLOW_TRACKING_URI": "https://mlflow.example.org",
        "MLFLOW_EXPERIMENT_ID": "5",
    }


def test_databricks_is_asked_for_uv_as_it_is_locked() -> None:
    spec = json.loads((DEPLOY / "databricks" / "cluster-spec.json").read_text())
    (library,) = spec["libraries"]
    lock = (ROOT / "tests" / "requirements.lock").read_text()
    assert f"\n{library['pypi']['package']} " in lock
