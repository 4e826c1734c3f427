"""A container engine and a Kubernetes cluster, as much of them as MLflow's Kubernetes backend asks.

Images are folders, and the cluster has one node: this machine. What a Job says is what runs: its
command, in the folder of its image, with the environment it is given and no other.
"""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploying.http_api import Answer, Asked, answering

JOBS = "/apis/batch/v1/namespaces/"


@dataclass
class Engine:
    """Builds an image from a context, keeps it as a folder, and claims to have pushed it."""

    folder: Path
    dockerfiles: dict[str, str] = field(default_factory=dict)
    pushed: set[str] = field(default_factory=set)

    def answer(self, asked: Asked) -> Answer:
        path = asked.path.removeprefix("/v1.").lstrip("0123456789")
        if path.endswith("/build"):
            return self._build(asked)
        if path.endswith("/push"):
            tag = asked.query["tag"][0]
            self.pushed.add(f"{path.removeprefix('/images/').removesuffix('/push')}:{tag}")
            return 200, [{"status": "Pushed"}]
        if path.startswith("/distribution/"):
            name = path.removeprefix("/distribution/").removesuffix("/json")
            known = name in self.pushed
            return (200, {"Descriptor": {"digest": digest(name)}}) if known else (404, {})
        if path.startswith("/images/"):
            name = path.removeprefix("/images/").removesuffix("/json")
            found = name if name in self.dockerfiles else next(iter(self.dockerfiles))
            return 200, {"Id": digest(found), "RepoTags": [found]}
        return 200, {"ApiVersion": "1.50", "MinAPIVersion": "1.24", "ServerVersion": "28.2.2"}

    def _build(self, asked: Asked) -> Answer:
        name, dockerfile = asked.query["t"][0], asked.query["dockerfile"][0]
        with tarfile.open(fileobj=io.BytesIO(asked.body), mode="r:gz") as context:
            context.extractall(self.folder, filter="data")
        self.dockerfiles[name] = (self.folder / dockerfile).read_text()
        return 200, [{"stream": f"Successfully built {digest(name).removeprefix('sha256:')}"}]

    def root(self) -> Path:
        """Return the folder which the Dockerfile copies into the image."""
        return self.folder / "mlflow-project-docker-build-context"


def digest(name: str) -> str:
    return f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"


@dataclass
class Cluster:
    """Runs a Job to its end while it is created."""

    engine: Engine
    secrets: Mapping[str, Mapping[str, str]]
    jobs: dict[str, Any] = field(default_factory=dict)
    said: str = ""

    def answer(self, asked: Asked) -> Answer:
        namespace, _, rest = asked.path.removeprefix(JOBS).partition("/")
        if asked.method == "POST" and rest == "jobs":
            job = asked.json()
            assert job["metadata"]["namespace"] == namespace
            job["status"] = self._run(job["spec"]["template"]["spec"]["containers"][0])
            self.jobs[job["metadata"]["name"]] = job
            return 201, job
        name = rest.removeprefix("jobs/").removesuffix("/status")
        return (200, self.jobs[name]) if name in self.jobs else (404, {"message": "no such job"})

    def _run(self, container: dict[str, Any]) -> dict[str, object]:
        variables = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}"}
        for source in container["envFrom"]:
            variables |= self.secrets[source["secretRef"]["name"]]
        variables |= {each["name"]: each["value"] for each in container["env"]}
        done = subprocess.run(
            container["command"],
            cwd=self.engine.root(),
            env=variables,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        self.said = done.stdout + done.stderr
        kind = "Failed" if done.returncode else "Complete"
        condition = {"type": kind, "status": "True", "message": f"left with {done.returncode}"}
        return {"startTime": "2026-01-01T00:00:00Z", "conditions": [condition]}


@contextmanager
def platform(
    folder: Path, secrets: Mapping[str, Mapping[str, str]]
) -> Iterator[tuple[Engine, Cluster, dict[str, str]]]:
    """Run both; yield them, and what a client needs in its environment to find them.

    Parameters
    ----------
    folder : Path
        For images, and for the client's configuration.
    secrets : mapping
        The cluster's Secrets.
    """
    engine = Engine(folder / "images")
    cluster = Cluster(engine, secrets)
    with answering(engine.answer) as docker, answering(cluster.answer) as api:
        environment = {
            "DOCKER_HOST": f"tcp://{docker}",
            "KUBECONFIG": str(_kubeconfig(folder, api)),
            "PATH": f"{_docker_client(folder)}{os.pathsep}{Path(sys.executable).parent}"
            f"{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }
        yield engine, cluster, environment


def _kubeconfig(folder: Path, api: str) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": {"server": f"http://{api}"}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "current-context": "here",
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


def _docker_client(folder: Path) -> Path:
    """Make the one command of Docker's client that MLflow uses: everything else goes over HTTP."""
    client = folder / "bin" / "docker"
    client.parent.mkdir()
    client.write_text(
        f"#!{sys.executable}\n"
        "import os, sys, urllib.request\n"
        "assert sys.argv[1:] == ['info'], sys.argv\n"
        "urllib.request.urlopen(os.environ['DOCKER_HOST'].replace('tcp:', 'http:') + '/info')\n"
    )
    client.chmod(0o755)
    return client.parent
