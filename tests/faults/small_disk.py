"""A disk of a few megabytes that can be full, seen by the processes that are to see it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from faults.started import eventually


class SmallDisk:
    """A file system in memory, mounted at a folder in a namespace of its own.

    Attributes
    ----------
    folder : Path
        Where it is for those inside. Outside there is an empty folder.
    """

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        folder.mkdir()
        ready = folder.with_suffix(".ready")
        mount = f'mount -t tmpfs -o size={megabytes}m none "$1" && touch "$2" && exec sleep 1000000'
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
        self._holder = subprocess.Popen([*command, str(folder), str(ready)])
        eventually(lambda: ready.exists() or self._holder.poll() is not None)
        if not ready.exists():
            raise OSError("nobody may mount a file system here")

    @property
    def inside(self) -> Path:
        """The folder, as it can be reached from outside."""
        return Path(f"/proc/{self._holder.pid}/root{self.folder}")

    def see(self, command: list[str]) -> list[str]:
        """Return a command that runs another one where the disk is seen."""
        enter = ["nsenter", "--user", "--mount", "--preserve-credentials"]
        return [*enter, f"--target={self._holder.pid}", f"--wd={self.folder}", *command]

    def fill(self, but: int) -> None:
        """Write a file that leaves so many bytes."""
        free = os.statvfs(self.inside)
        (self.inside / "large").write_bytes(b"x" * (free.f_bavail * free.f_bsize - but))

    def make_room(self) -> None:
        """Delete that file."""
        (self.inside / "large").unlink()

    def take_out(self) -> None:
        """Copy what is on it to where it is mounted inside, to look at it with all its paths."""
        shutil.copytree(self.inside, self.folder, dirs_exist_ok=True)

    def close(self) -> None:
        """Let it go, with all that is on it."""
        self._holder.kill()
        self._holder.wait()


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    """Make a small disk; skip the test where this user may not."""
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        pytest.skip("unshare and nsenter (util-linux) are not installed")
    try:
        disk = SmallDisk(folder, megabytes)
    except OSError as error:
        pytest.skip(str(error))
    try:
        yield disk
    finally:
        disk.close()
