"""`mlflow server` on loopback, with users or without."""

import base64
import json
import secrets
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from services.server import Server, running

ADMIN = "admin"
MAY_WRITE = (
    *("experiment", "run", "logged_model", "registered_model", "registered_model_version"),
    *("trace",),
)


class TrackingServer(Server):
    """One worker, no jobs: ready four times as fast as by default."""

    def __init__(
        self,
        folder: Path,
        *,
        backend_store_uri: str,
        artifacts_destination: str | None = None,
        users: bool | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder)
        self.artifacts_destination = artifacts_destination or str(folder / "artifacts")
        self._stores = {
            # Not as arguments: the process list shows those, and a database's address its password.
            "MLFLOW_BACKEND_STORE_URI": backend_store_uri,
            "MLFLOW_ARTIFACTS_DESTINATION": self.artifacts_destination,
        }
        self._given = dict(environment or {})
        names = (ADMIN, "reader", "writer") if users else ()
        self.passwords = {name: secrets.token_urlsafe(16) for name in names}
        if self.passwords:
            self._stores |= {
                "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
                "MLFLOW_AUTH_ADMIN_PASSWORD": self.passwords[ADMIN],
                "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(32),
            }
            (folder / "auth.ini").write_text(
                "[mlflow]\n"
                "default_permission = READ\n"
                f"database_uri = sqlite:///{folder}/users.db\n"
                f"admin_username = {ADMIN}\n"
                # Else every request pays for a deliberately slow hash, 0.15 s of a core.
                "auth_cache_ttl_seconds = 60\n"
            )

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment_of(self, user: str) -> dict[str, str]:
        """Return what a process needs in its environment to be one of the users."""
        return {
            "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": self.passwords[user],
        }

    def add_users(self) -> None:
        """Let ``reader`` read everything, and ``writer`` write to what others made, too."""
        for user in self.passwords.keys() - {ADMIN}:
            account = {"username": user, "password": self.passwords[user]}
            self._post("2.0/mlflow/users/create", account)
        for kind in MAY_WRITE if self.passwords else ():
            grant = {
                "username": "writer",
                "resource_type": kind,
                "resource_id": "*",
                "permission": "EDIT",
            }
            self._post("3.0/mlflow/users/permissions/grant", grant)

    def _post(self, path: str, body: dict[str, str]) -> None:
        login = base64.b64encode(f"{ADMIN}:{self.passwords[ADMIN]}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
        request = urllib.request.Request(
            f"{self.uri}/api/{path}", json.dumps(body).encode(), headers, method="POST"
        )
        urllib.request.urlopen(request, timeout=30).close()

    def _environment(self) -> dict[str, str]:
        return {
            **super()._environment(),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            **self._stores,
            **self._given,
        }

    def _command(self) -> list[str]:
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
            *("--host", "127.0.0.1", "--port", str(self.port)),
        ]
        return [*command, "--app-name", "basic-auth"] if self.passwords else command

    def _ask(self) -> None:
        urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()


@contextmanager
def tracking_server(
    folder: Path,
    *,
    backend_store_uri: str,
    artifacts_destination: str | None = None,
    users: bool | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[TrackingServer]:
    """Run a tracking server.

    Parameters
    ----------
    folder : Path
        Where it works, keeps its log, and its artifacts unless told otherwise.
    backend_store_uri : str
        The database with the runs.
    artifacts_destination : str, optional
        Where it keeps what clients send it: a folder, ``s3://…``.
    users : bool, optional
        Ask for passwords: of ``admin``, of ``reader`` and of ``writer``.
    environment : mapping, optional
        More settings of the server, the keys to its bucket for one.

    Yields
    ------
    TrackingServer
    """
    server = TrackingServer(
        folder,
        backend_store_uri=backend_store_uri,
        artifacts_destination=artifacts_destination,
        users=users,
        environment=environment,
    )
    with running(server):
        server.add_users()
        yield server
