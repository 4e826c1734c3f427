"""deploy/compose.yaml without a container engine: its commands as processes on loopback."""

import base64
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from services.postgres import Postgres
from services.server import Server, free_port, running, undecided_environment

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?P<else>:[?-])?(?P<text>[^}]*)\}")


class RefusedError(ValueError):
    """A variable that must have a value has none."""


def interpolate(text: str, values: Mapping[str, str]) -> str:
    """Put values where ``${NAME}``, ``${NAME:-default}`` and ``${NAME:?message}`` stand."""

    def value(found: re.Match[str]) -> str:
        given = values.get(found["name"], "")
        if not given and found["else"] == ":?":
            raise RefusedError(f"{found['name']}: {found['text']}")
        return given or (found["text"] if found["else"] == ":-" else "")

    return _VARIABLE.sub(value, text)


def services(values: Mapping[str, str]) -> dict[str, Any]:
    """Return the services of compose.yaml, with their variables' values."""
    compose = yaml.safe_load(interpolate((DEPLOY / "compose.yaml").read_text(), values))
    return dict(compose["services"])


class _ObjectStore(Server):
    """The service ``s3``: what its image's entry point makes of the command."""

    def __init__(self, folder: Path, home: Path, service: Mapping[str, Any]) -> None:
        super().__init__(folder)
        self._home = home
        self._service = service

    def _command(self) -> list[str]:
        first, *options = self._service["command"]
        by_image = (f"-dir={self._home}", "-volume.max=0", "-master.volumeSizeLimitMB=1024")
        ports = {f"{part}.port": free_port() for part in ("master", "volume", "filer")}
        grpc = {f"{name}.grpc": free_port() for name in (*ports, "s3.port")}
        here = {**ports, **grpc, "s3.port": self.port}
        sockets = {f"{part}.localSocket": self._home / part for part in ("filer", "s3")}
        return [
            *(str(Path(sys.executable).with_name("weed")), "-logtostderr=true", first, *by_image),
            *(option.replace("0.0.0.0", "127.0.0.1") for option in options),
            *(f"-{name}={value}" for name, value in (here | sockets).items()),
        ]

    def _environment(self) -> dict[str, str]:
        return undecided_environment() | self._service["environment"]

    def _ask(self) -> None:
        urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5).close()

    def stop(self) -> None:
        """End at once: in order takes it ten seconds, and its data is thrown away."""
        self.kill()


class _Mlflow(Server):
    """The service ``mlflow``."""

    def __init__(self, folder: Path, service: Mapping[str, Any], prepare: list[str]) -> None:
        super().__init__(folder)
        self._service = service
        self._prepare = prepare

    def start(self) -> None:
        """Start, after ``prepare`` has left with 0, as ``depends_on`` says."""
        subprocess.run(self._prepare, env=self._environment(), cwd=self.folder, check=True)
        super().start()

    def _here(self, words: list[str]) -> list[str]:
        binaries = Path(sys.executable).parent
        words = [re.sub(r"\b5000\b", str(self.port), word) for word in words]
        words = [word.replace("0.0.0.0", "127.0.0.1") for word in words]
        return [str(binaries / words[0]), *words[1:]]

    def _command(self) -> list[str]:
        return self._here(self._service["command"])

    def _environment(self) -> dict[str, str]:
        return undecided_environment() | self._service["environment"]

    def _ask(self) -> None:
        """Ask as the health check does."""
        _, *check = self._service["healthcheck"]["test"]
        subprocess.run(self._here(check), env=self._environment(), capture_output=True, check=True)


@dataclass(frozen=True)
class Stack:
    """What compose.yaml starts.

    Attributes
    ----------
    uri : str
        The tracking server's address.
    values : dict of str to str
        What ``deploy/.env`` holds: passwords and keys.
    database : str
        Address of the database with the runs, the password included.
    """

    uri: str
    values: dict[str, str]
    database: str

    def look_into_bucket(self) -> None:
        """List artifacts: the first time, the server loads a library for that, which takes long."""
        login = f"admin:{self.values['MLFLOW_AUTH_ADMIN_PASSWORD']}"
        request = urllib.request.Request(
            f"{self.uri}/api/2.0/mlflow-artifacts/artifacts?path=0",
            headers={"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"},
        )
        urllib.request.urlopen(request, timeout=60).close()


@contextmanager
def composed(folder: Path, postgres: Postgres) -> Iterator[Stack]:
    """Run what compose.yaml starts, with a PostgreSQL server that is there already."""
    values = {
        "POSTGRES_PASSWORD": postgres.password,
        "S3_ACCESS_KEY": "candlewick",
        "S3_SECRET_KEY": secrets.token_hex(24),
        "MLFLOW_AUTH_ADMIN_PASSWORD": secrets.token_hex(24),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(24),
        "MLFLOW_WORKERS": "1",  # each takes seconds to start
    }
    database = postgres.create_database()
    there, here = "//mlflow@postgres:5432/mlflow", database.replace(f":{postgres.password}@", "@")
    here = here.removeprefix("postgresql:")
    auth = folder / "basic_auth.ini"
    auth.write_text((DEPLOY / "basic_auth.ini").read_text().replace(there, here))
    described = services(values)
    home = Path(tempfile.mkdtemp(prefix="s3-"))
    try:
        with running(_ObjectStore(folder, home, described["s3"])) as store:
            environment = {
                name: value.replace(there, here)
                .replace("s3:8333", f"127.0.0.1:{store.port}")
                .replace("/etc/mlflow/basic_auth.ini", str(auth))
                for name, value in described["mlflow"]["environment"].items()
            }
            prepare = [
                word.replace("/opt/candlewick", str(DEPLOY))
                for word in described["prepare"]["command"]
            ]
            prepare[0] = sys.executable
            service = {**described["mlflow"], "environment": environment}
            with running(_Mlflow(folder, service, prepare)) as server:
                stack = Stack(f"http://127.0.0.1:{server.port}", values, database)
                stack.look_into_bucket()
                yield stack
    finally:
        shutil.rmtree(home, ignore_errors=True)
