"""Which process owns a run, and whether it is alive: on this machine that can be known."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import threading
import time
import uuid
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Final

import psutil

_SHELLS: Final = ("sh", "bash", "dash", "zsh", "cmd.exe", "powershell.exe")


@dataclass(frozen=True)
class Owner:
    """A process, so that it can be told from any other, on any machine.

    Attributes
    ----------
    host : str
        For people.
    machine : str
        The machine, whenever it was started; empty where it has no identity (many containers).
    numbering : str
        Where process numbers mean the same: the machine since it was started, and the container.
    pid : int
    started : str
        Tells the process from a later one that got the same number.
    """

    host: str
    machine: str
    numbering: str
    pid: int
    started: str

    @classmethod
    def here(cls) -> Owner:
        """Return the process this is."""
        pid = os.getpid()
        return cls(socket.gethostname(), _machine(), _numbering(), pid, _start_of(pid))

    def write(self) -> str:
        """Return it as text, for a tag."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Owner | None:
        """Return what :meth:`write` wrote; None where it is something else."""
        try:
            content = json.loads(text)
            return cls(
                str(content["host"]),
                str(content["machine"]),
                str(content["numbering"]),
                int(content["pid"]),
                str(content["started"]),
            )
        except (ValueError, TypeError, KeyError, RecursionError):
            return None

    @property
    def is_near(self) -> bool:
        """Whether this process can see the owner, if it is alive: see :attr:`is_alive`."""
        return self.numbering == _numbering() and not _is_hidden(self.pid)

    @property
    def is_alive(self) -> bool:
        """Whether the process is there: only of one that is near."""
        return _start_of(self.pid) == self.started

    @property
    def was_here(self) -> bool:
        """Whether it ran on this very machine, before that was started again."""
        is_this = self.machine == _machine() != "" and self.host == socket.gethostname()
        return is_this and not self.numbering.startswith(boot())


def boot() -> str:
    """Return what tells this machine, since it was started, from others.

    All containers on it have the same, and one clock that only goes forward: see :func:`uptime`.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        return f"{socket.gethostname()}-{uuid.getnode():x}"


def uptime() -> float:
    """Return seconds since some moment that is the same for all processes of this machine.

    Nobody sets this clock, and it stands still while the machine is asleep.
    """
    return time.monotonic()


@cache
def _machine() -> str:
    try:
        identity = Path("/etc/machine-id").read_bytes().strip()
    except OSError:
        identity = b""
    # The identity itself is not for others to see.
    return hashlib.sha256(b"candlewick" + identity).hexdigest()[:16] if identity else ""


@cache
def _numbering() -> str:
    try:
        return f"{boot()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return boot()


def _start_of(pid: int) -> str:
    """Return when a process started, in units that no change of the clock touches; or nothing."""
    try:
        # The 22nd field: ticks since the machine started. psutil turns them into a time of day.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return "" if fields[0] in (b"Z", b"X") else fields[19].decode()
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:
        return repr(psutil.Process(pid).create_time())
    except psutil.Error:
        return ""


def _is_hidden(pid: int) -> bool:
    """Tell whether a process is there of which this user may see no more than that."""
    if _start_of(pid):
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        pass
    return False


def stop_with_launcher() -> None:
    """Send this process a SIGTERM when the one that launched it ends.

    ``mlflow run`` starts a step through a shell and dies of a SIGTERM, or a SIGKILL, without
    telling it: the step would go on as an orphan, in a run that nobody closes.
    """
    try:
        ancestors = psutil.Process().parents()
    except psutil.Error:
        return
    launcher = next((each for each in ancestors if each.name() not in _SHELLS), None)
    if launcher is None or launcher.pid == 1:  # a container's first process: none outlives it
        return

    def watch() -> None:
        launcher.wait()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="launcher", daemon=True).start()
