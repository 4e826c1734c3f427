"""A network in front of a database that loses answers where it hurts most."""

import socket
import threading
from contextlib import suppress

from services.unreliable import Mode, Unreliable

EVERY = 8
CHANGES = (b"INSERT 0 ", b"UPDATE ", b"DELETE ")
"""How PostgreSQL says that it has changed something."""


class ForgetsCommits(Unreliable):
    """Where it is DEAF, every so many times the answer to the COMMIT of a change is lost.

    The change is made then, and nobody knows. To lose all answers would be to be away: nobody
    could even log in.
    """

    commits = 0

    def _pass_on(self, client: socket.socket, server: socket.socket, mode: Mode) -> None:
        changed = lose = False

        def forth() -> None:
            nonlocal changed, lose
            with suppress(OSError):
                while data := client.recv(65536):
                    if b"COMMIT" in data and changed and mode is Mode.DEAF:
                        changed = False
                        self.commits += 1
                        lose = self.commits % EVERY == 0
                    server.sendall(data)

        def back() -> None:
            nonlocal changed
            with suppress(OSError):
                while data := server.recv(65536):
                    if lose:
                        self.lost += 1
                        break
                    changed = changed or any(each in data for each in CHANGES)
                    client.sendall(data)
            self._close(client)

        for direction in (forth, back):
            threading.Thread(target=direction, daemon=True).start()
