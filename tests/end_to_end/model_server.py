"""A model behind HTTP on loopback, as `mlflow models serve` puts it there."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from end_to_end.recipe import environment

PATIENCE = 300.0  # seconds a server may take to start on a loaded machine
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    kind: str | None
    content: bytes

    @property
    def predictions(self) -> list[dict[str, Any]]:
        assert self.status == 200, self.content.decode()
        return list(json.loads(self.content)["predictions"])

    @property
    def message(self) -> str:
        """What a refused request is told."""
        assert 400 <= self.status < 500, (self.status, self.content)
        assert self.kind == "application/json"
        return str(json.loads(self.content)["message"])


@dataclass(frozen=True)
class ModelServer:
    """A server that answers on a port of 127.0.0.1."""

    port: int

    def ask(self, body: Any, headers: dict[str, str] = JSON) -> Answer:
        """Post a body to /invocations: bytes as they are, anything else as JSON.

        Infinity goes as 1e999: the first is no JSON, the second is and means the same here.
        """
        if not isinstance(body, bytes):
            body = json.dumps(body).replace("Infinity", "1e999").encode()
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
            connection.request("POST", "/invocations", body, headers)
            response = connection.getresponse()
            return Answer(response.status, response.getheader("Content-Type"), response.read())


@contextmanager
def serve_model(
    uri: str, folder: Path, *, manager: str = "local", **changes: str
) -> Iterator[ModelServer]:
    """Serve a model from a folder in which nothing of this project can be imported."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", uri),
        *("--env-manager", manager, "--host", "127.0.0.1", "--port", str(port)),
    ]
    with started(command, port, folder, environment(**changes)):
        yield ModelServer(port)


@contextmanager
def started(
    command: Sequence[str], port: int, folder: Path, environment: Mapping[str, str]
) -> Iterator[None]:
    """Run a command that ends up listening on a port; end it, and all it has started."""
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # MLflow starts the server as its child: both are to end
        )
    try:
        _wait_for(port, process, log)
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=60)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:  # uvicorn listens when the model is loaded
            return
    raise RuntimeError(f"no server on port {port}:\n{log.read_text()[-4000:]}")
