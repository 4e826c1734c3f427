"""Snapshots of remote stores, kept on this machine so that training again downloads nothing.

An entry is a snapshot's folder, named by its seal: what is in it can be proven, and never changes.
It is downloaded beside its place and moved there when it is whole and its checksums agree. Whoever
uses an entry holds a lock on it, which goes with the process; what was used longest ago makes room.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from platformdirs import user_cache_path

from steps.tracking.checksums import DamagedError, check
from steps.tracking.settings import load_settings

_PARTIAL: Final = ".partial"
"""Ends the names of downloads that are not complete yet."""

Fetch = Callable[[str], Path]
"""Downloads the snapshot's folder into a folder and returns where it is."""


@contextmanager
def cached(seal: str, fetch: Fetch) -> Iterator[Path]:
    """Have a snapshot at hand, downloaded by `fetch` unless it is here already.

    The folder that is yielded must not be written to. It is of no entry, and gone afterwards,
    where the cache has no room or cannot be written to.

    Parameters
    ----------
    seal : str
        What :func:`steps.tracking.checksums.seal` returned: it names the entry and proves it.
    fetch : callable

    Raises
    ------
    DamagedError
        If what was downloaded is not what was sealed.
    """
    with kept(seal) as entry:
        if entry is not None:
            yield entry
            return
    folder = _usable_folder()
    if folder is not None:
        _download(folder, seal, fetch)
        with kept(seal) as entry:
            if entry is not None:
                yield entry
                return
    with tempfile.TemporaryDirectory(prefix="candlewick-") as temporary:
        yield check(fetch(temporary), expected=seal)


@contextmanager
def kept(seal: str, within: str = "") -> Iterator[Path | None]:
    """Yield the entry, if there is one and it is as it was sealed; a damaged one is removed.

    Parameters
    ----------
    seal : str
    within : str
        Check this file or folder of the entry alone.
    """
    with ExitStack() as held:
        try:
            entry = _find(cache_folder(), seal, within, held)
        except OSError:  # no folder of ours, or of this user's
            entry = None
        yield entry


def _find(folder: Path, seal: str, within: str, held: ExitStack) -> Path | None:
    entry = folder / seal
    if not load_settings().CANDLEWICK_CACHE_SIZE or not entry.is_dir():
        return None
    held.enter_context(_locked(folder, seal, fcntl.LOCK_SH))
    try:
        check(entry, expected=seal, within=within)
    except (DamagedError, OSError):
        held.close()
        _remove_if_unused(entry, folder, seal)
        return None
    os.utime(_lock(folder, seal))  # used now
    return entry


def cache_folder() -> Path:
    """Return where entries are: ``CANDLEWICK_CACHE``, or where this user's programs keep theirs."""
    return (load_settings().CANDLEWICK_CACHE or user_cache_path("candlewick")) / "snapshots"


def _usable_folder() -> Path | None:
    """Return the folder of the cache, made if need be, unless there is to be none."""
    folder = cache_folder()
    if not load_settings().CANDLEWICK_CACHE_SIZE:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)  # features may be nobody else's business
    except OSError:
        return None
    return folder


def _download(folder: Path, seal: str, fetch: Fetch) -> None:
    """Make an entry, unless somebody else does at the same time: then that is waited for."""
    with _locked(folder, f"{seal}{_PARTIAL}", fcntl.LOCK_EX):
        if (folder / seal).is_dir():
            return
        for left in folder.glob(f"{seal}{_PARTIAL}.*/"):  # by a process that was killed
            _remove(left)
        with tempfile.TemporaryDirectory(prefix=f"{seal}{_PARTIAL}.", dir=folder) as temporary:
            found = check(fetch(temporary), expected=seal)
            room = load_settings().CANDLEWICK_CACHE_SIZE * 1e9 - _size(found)
            if room >= 0:
                _make_room(folder, room)
                found.rename(folder / seal)


def _make_room(folder: Path, room: float) -> None:
    """Remove what was used longest ago until the rest takes at most `room` bytes.

    And what downloads of others have left whose processes were killed.
    """
    found = [each for each in folder.iterdir() if each.is_dir()]
    for partial in (each for each in found if "." in each.name):
        _remove_if_unused(partial, folder, partial.stem)
    sizes = {each: _size(each) for each in found if "." not in each.name}
    for entry in sorted(sizes, key=lambda entry: _last_use(folder, entry.name)):
        if sum(sizes.values()) > room and _remove_if_unused(entry, folder, entry.name):
            del sizes[entry]


def _last_use(folder: Path, seal: str) -> float:
    try:
        return _lock(folder, seal).stat().st_mtime
    except OSError:
        return 0.0


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _remove_if_unused(entry: Path, folder: Path, lock: str) -> bool:
    """Remove an entry, so that nobody sees half of it, if nobody holds its lock."""
    try:
        with _locked(folder, lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
            _remove(entry)
    except BlockingIOError:
        return False
    return True


def _remove(entry: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=f"{entry.name}.", dir=entry.parent) as temporary:
        with suppress(FileNotFoundError):  # somebody else has removed it
            entry.rename(Path(temporary, "entry"))
        shutil.rmtree(Path(temporary, "entry"), ignore_errors=True)


@contextmanager
def _locked(folder: Path, name: str, how: int) -> Iterator[None]:
    """Hold a lock; the system lets go of it when the process ends, however it does."""
    with _lock(folder, name).open("a") as file:
        fcntl.flock(file, how)
        yield


def _lock(folder: Path, name: str) -> Path:
    return folder / f"{name}.lock"
