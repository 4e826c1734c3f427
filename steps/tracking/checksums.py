"""Checksums over all files of a folder, so that damage shows before anything in it is used.

They find what disks, networks and hands do to files. Whoever may write to the folder can also seal
it anew, so they say nothing about who wrote it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SUMS: Final = "SHA256SUMS"
"""The list's file name; ``sha256sum -c SHA256SUMS`` reads it, too."""

_WRITTEN_LATER: Final = (SUMS, "registered_model_meta")
"""Files at the top that are no part of the seal; MLflow adds the latter where it downloads."""

_LARGEST_LIST: Final = 16 * 2**20
"""Bytes; a list of 100,000 files."""


class DamagedError(ValueError):
    """A folder's files are not those it was sealed with; the message names the first."""


def seal(folder: Path) -> str:
    """Write the checksums of all files in a folder and below it into the folder.

    Parameters
    ----------
    folder : Path
        Holds plain files only: no links.

    Returns
    -------
    str
        The SHA-256 of the list itself, to be kept elsewhere.
    """
    content = _list(folder, "")
    (folder / SUMS).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def check(
    folder: Path, *, required: bool = False, expected: str | None = None, within: str = ""
) -> Path:
    """Make sure that a folder's files are those it was sealed with, and return it.

    Parameters
    ----------
    folder : Path
    required : bool
        Whether a folder without checksums is refused, too.
    expected : str, optional
        What :func:`seal` returned; it makes the checksums required.
    within : str
        Check this file or folder alone; the others need not be there.

    Raises
    ------
    DamagedError
        If a file differs, is missing or was added, or is no plain file.
    """
    try:
        size = (folder / SUMS).lstat().st_size
    except FileNotFoundError:
        if required or expected:
            raise DamagedError(f"{SUMS} is missing") from None
        return folder
    if size > _LARGEST_LIST:
        raise DamagedError(f"{SUMS} has {size:,} bytes, expected {_LARGEST_LIST:,} at most")
    sealed = (folder / SUMS).read_bytes()
    if expected and not hmac.compare_digest(hashlib.sha256(sealed).hexdigest(), expected):
        raise DamagedError(f"{SUMS} is damaged: it does not hash to {expected}")
    wanted = b"".join(line for line in sealed.splitlines(keepends=True) if _is_in(line, within))
    found = _list(folder, within)
    # Not by `!=`: this code travels with models, where one wrong byte must not make it "<=".
    if not hmac.compare_digest(found, wanted):
        raise DamagedError(_first_difference(_read(found), _read(wanted)))
    return folder


def _list(folder: Path, within: str) -> bytes:
    """Return the list of a folder's files as they are."""
    lines = []
    for path in sorted(_files(folder, "")):
        line = f"{'0' * 64}  {path}\n".encode(errors="surrogateescape")
        if _is_in(line, within):
            lines.append(_digest(folder / path).encode() + line[64:])
    return b"".join(lines)


def _files(folder: Path, prefix: str) -> Iterator[str]:
    """Yield the paths of all files below a folder that are part of its seal, with ``/``."""
    with os.scandir(folder) as entries:
        for entry in entries:
            path = f"{prefix}{entry.name}"
            if entry.is_symlink():
                raise DamagedError(f"{path!r} is a link, expected a file or a folder")
            if "\n" in path or "\r" in path:
                raise DamagedError(f"{path!r} is no name that {SUMS} could hold")
            if entry.is_dir():
                yield from _files(Path(entry.path), f"{path}/")
            elif not entry.is_file():
                raise DamagedError(f"{path!r} is neither a file nor a folder")
            elif path not in _WRITTEN_LATER and not _is_compiled(path):
                yield path


def _is_compiled(path: str) -> bool:
    """Whether a file is what Python has left beside the code it ran, in the folder of its own."""
    return "/__pycache__/" in f"/{path}" and path.endswith(".pyc")


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _is_in(line: bytes, within: str) -> bool:
    """Whether a line of the list is about a file that is asked about."""
    path = line[66:].rstrip(b"\n")
    asked = within.encode()
    return not asked or path == asked or path.startswith(asked + b"/")


def _read(content: bytes) -> dict[str, str]:
    """Return the digest of each path in a list."""
    lines = content.decode(errors="backslashreplace").split("\n")
    return {line[66:]: line[:64] for line in lines if line}


def _first_difference(found: dict[str, str], wanted: dict[str, str]) -> str:
    for path in sorted({*found, *wanted}):
        if path not in found:
            return f"{path} is missing"
        if path not in wanted:
            return f"{path} was added, it is not in {SUMS}"
        if found[path] != wanted[path]:
            now, was = found[path][:12], wanted[path][:12]
            return f"{path} is damaged: its SHA-256 begins with {now}, that in {SUMS} with {was}"
    return f"{SUMS} is damaged"
