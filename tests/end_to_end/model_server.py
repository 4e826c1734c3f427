"""A model behind HTTP on loopback, as `mlflow models serve` puts it there."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from services.server import PATIENCE, Server, free_port, running

from end_to_end.recipe import environment

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


class Command(Server):
    """A command that ends up listening on a port."""

    def __init__(
        self, command: Sequence[str], port: int, folder: Path, environment: Mapping[str, str]
    ) -> None:
        super().__init__(folder, port)
        self._words = list(command)
        self._given = dict(environment)

    def _command(self) -> list[str]:
        return self._words

    def _environment(self) -> dict[str, str]:
        return self._given


def started(
    command: Sequence[str], port: int, folder: Path, environment: Mapping[str, str]
) -> AbstractContextManager[Command]:
    """Run a command that ends up listening on a port; end it, and all it has started."""
    return running(Command(command, port, folder, environment))
