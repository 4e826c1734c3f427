"""A network in front of a server that fails as networks do."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum


class Mode(Enum):
    """What becomes of a request."""

    UP = "answered"
    DOWN = "refused"
    SILENT = "taken, and never answered"
    DEAF = "passed on, and the answer lost"


class Unreliable:
    """Passes bytes on to a server on loopback, as long as the mode lets it.

    Connections of the former mode are cut when it changes.
    """

    def __init__(self, port: int) -> None:
        self._behind = port
        self._mode = Mode.UP
        self._open: list[socket.socket] = []
        self._listener = self._listen(0)
        self.port = int(self._listener.getsockname()[1])
        self.lost = 0
        """How many answers did not arrive."""

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def mode(self) -> Mode:
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        was, self._mode = self._mode, mode
        if mode is Mode.DOWN and was is not Mode.DOWN:
            self._close(self._listener)
        elif was is Mode.DOWN and mode is not Mode.DOWN:
            self._listener = self._listen(self.port)
        self._cut()

    def close(self) -> None:
        self._close(self._listener)
        self._cut()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port), reuse_port=False)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self._open.append(client)
            if self._mode is not Mode.SILENT:
                with suppress(OSError):
                    server = socket.create_connection(("127.0.0.1", self._behind))
                    self._open.append(server)
                    self._pass_on(client, server, self._mode)

    def _pass_on(self, client: socket.socket, server: socket.socket, mode: Mode) -> None:
        def forth() -> None:
            with suppress(OSError):
                while data := client.recv(65536):
                    server.sendall(data)

        def back() -> None:
            with suppress(OSError):
                while data := server.recv(65536):
                    if mode is Mode.DEAF:
                        self.lost += 1
                        self._close(client)
                        return
                    client.sendall(data)
            self._close(client)

        for direction in (forth, back):
            threading.Thread(target=direction, daemon=True).start()

    def _cut(self) -> None:
        while self._open:
            self._close(self._open.pop())

    @staticmethod
    def _close(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()


@contextmanager
def unreliable(port: int) -> Iterator[Unreliable]:
    """Put an unreliable network in front of a port; it works until it is told not to."""
    network = Unreliable(port)
    try:
        yield network
    finally:
        network.close()
