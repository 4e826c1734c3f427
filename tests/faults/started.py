"""Commands of a user, as processes that something happens to."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from end_to_end.recipe import environment, told
from services.server import DECIDED

PATIENCE = 240.0  # seconds that anything may take on a loaded machine


def undecided() -> dict[str, str]:
    """Return an environment in which nothing is decided about stores."""
    return {name: text for name, text in environment().items() if not name.startswith(DECIDED)}


def module(name: str, **typed: object) -> list[str]:
    """Return the command for an entry point."""
    return [sys.executable, "-m", name, *(f"--{key}={value}" for key, value in typed.items())]


def eventually(condition: Callable[[], object], alive: "Started | None" = None) -> None:
    """Wait until a condition holds; it has to come before a process ends, if one is given."""
    until = time.monotonic() + PATIENCE
    while not condition():
        if alive is not None and alive.process.poll() is not None and not condition():
            raise AssertionError(f"it has ended with {alive.process.returncode}: {alive.text}")
        assert time.monotonic() < until, alive and alive.text
        time.sleep(0.1)  # asking is not for free, and both cores have enough to do


class Started:
    """A command in a session of its own, as in a terminal."""

    def __init__(self, command: list[str], folder: Path, variables: dict[str, str]) -> None:
        self._error = folder / f"stderr-{time.monotonic_ns()}.txt"
        with self._error.open("wb") as error:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=error,
                start_new_session=True,
                # Whoever runs the tests in the background has made Ctrl-C of no effect for all.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    @property
    def text(self) -> str:
        """What it has said on standard error so far."""
        return self._error.read_text(errors="replace")

    @property
    def said(self) -> list[str]:
        """The same in lines, without those of MLflow's own log."""
        return told(self.text)

    def saying(self, part: str) -> list[str]:
        """Return the lines it has said that have something in them."""
        return [line for line in self.said if part in line]

    def send(self, how: signal.Signals, *, everyone: bool = False) -> None:
        """Send a signal to the process, or as a terminal does to all it has started, too."""
        if everyone:
            os.killpg(self.process.pid, how)
        else:
            self.process.send_signal(how)

    def end(self) -> int:
        """Wait for the end; return the exit status."""
        return self.process.wait(timeout=PATIENCE)

    def succeed(self) -> None:
        """Wait for the end, which has to be a good one."""
        assert self.end() == 0, self.text

    def left(self) -> list[psutil.Process]:
        """Return the processes that it has started and that are there."""
        found = []
        for each in psutil.process_iter():
            try:
                of_it = os.getpgid(each.pid) == self.process.pid
                if of_it and each.status() != psutil.STATUS_ZOMBIE:
                    found.append(each)
            except (ProcessLookupError, psutil.NoSuchProcess):
                pass
        return found
