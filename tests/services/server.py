"""A program that answers on a port of 127.0.0.1 for as long as a test needs it."""

import atexit
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TypeVar

import psutil

PATIENCE = 300.0  # seconds a server may take to start on a loaded machine
DECIDED = ("MLFLOW_", "AWS_", "GOOGLE_", "STORAGE_EMULATOR_", "PG", "PYTHONPATH")

_given_away: set[int] = set()
"""Ports that this process has chosen; some server may be down for a while."""


def undecided_environment() -> dict[str, str]:
    """Return the environment without what the caller decided about MLflow, clouds or databases."""
    return {name: value for name, value in os.environ.items() if not name.startswith(DECIDED)}


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens.

    Not one that the system hands out itself: while a server is down, such a port may go to
    somebody's outgoing connection, even to the one that asks whether the server is back.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            if port not in _given_away:
                _given_away.add(port)
                return port


class Server:
    """What the servers have in common. Each is one process group, with whatever it starts."""

    polite = signal.SIGTERM
    """The signal that makes it stop in order."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder.absolute()
        self.port = port or free_port()
        self.log = self.folder / f"{type(self).__name__}-{self.port}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _environment(self) -> dict[str, str]:
        return {**undecided_environment(), "MLFLOW_DISABLE_TELEMETRY": "true"}

    def _identity(self) -> dict[str, object]:
        """Return under which user it runs, and where, as ``Popen`` takes it."""
        return {"cwd": self.folder}

    def _ask(self) -> None:
        """Ask something that only a server that is ready answers; raise if it does not."""
        socket.create_connection(("127.0.0.1", self.port), timeout=5).close()

    def start(self) -> None:
        """Start, or start again: on the same port, with the same data."""
        if self._process is not None:
            raise RuntimeError(f"{type(self).__name__} runs already: stop it first")
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command(),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the test, which then ends the server
                **self._identity(),  # type: ignore[call-overload]
            )
        _tell_keeper("+", self._process.pid, self.polite)
        try:
            self._wait()
        except BaseException:
            self.kill()
            raise

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + PATIENCE
        problem: Exception | None = None
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                self._ask()
            except Exception as error:  # each client library has its own
                problem = error
                time.sleep(0.05)
            else:
                return
        ended = self._process.poll()
        fate = f"ended with {ended}" if ended is not None else f"is not ready: {problem}"
        end_of_log = self.log.read_text(errors="replace")[-4000:]
        raise RuntimeError(f"{type(self).__name__} on port {self.port} {fate}\n{end_of_log}")

    def stop(self) -> None:
        """Stop in order; nothing happens if it does not run."""
        self._end(self.polite)

    def kill(self) -> None:
        """End at once, as a power cut would."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it be silent: connections are accepted by the system, and nobody answers."""
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def resume(self) -> None:
        """Let it go on; nothing happens if it was not paused."""
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def ensure_running(self) -> None:
        """Start it if it was stopped, resume it if it was paused."""
        if self._process is None:
            self.start()
        else:
            self.resume()

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        members = self._processes()
        if how is not signal.SIGKILL:
            self.resume()  # who is stopped cannot stop in order
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, how)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=30)
        for member in members:  # those with a group of their own, and whoever did not listen
            with suppress(psutil.NoSuchProcess):
                member.kill()
        self._process.wait()
        deadline = time.monotonic() + 30
        while any(map(_runs, members)) and time.monotonic() < deadline:
            time.sleep(0.01)
        _tell_keeper("-", self._process.pid, self.polite)
        self._process = None

    def _processes(self) -> list[psutil.Process]:
        """Return its processes, parents first."""
        if self._process is None:
            return []
        try:
            parent = psutil.Process(self._process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def _runs(process: psutil.Process) -> bool:
    """Say whether a process is there; an ended one may wait long for its new parent's notice."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@cache
def _keeper() -> subprocess.Popen[str]:
    """Start the program that outlives this process, to end what this one leaves behind."""
    command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("keeper.py"))]
    keeper = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
    atexit.register(keeper.communicate)
    return keeper


def _tell_keeper(what: str, group: int, how: signal.Signals) -> None:
    pipe = _keeper().stdin
    assert pipe is not None
    pipe.write(f"{what}{group} {how.value}\n")
    pipe.flush()


AnyServer = TypeVar("AnyServer", bound=Server)


@contextmanager
def running(server: AnyServer) -> Iterator[AnyServer]:
    """Start a server; end it, whatever happens."""
    server.start()
    try:
        yield server
    finally:
        server.kill()  # nobody needs its data any more
