"""Finds the files a user means by `prices`, and brings remote ones onto this machine."""

import difflib
import glob
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import fsspec

from steps.market.price_report import PriceError, first_of
from steps.market.price_tables import file_format

SAMPLE: Final = "sample"
"""The prices that come with this repository; a file of that name is "./sample"."""

_SAMPLE_FILE: Final = Path(__file__).parent / "sample" / "prices.parquet"
_ENDINGS: Final = (".csv", ".csv.gz", ".parquet")


@dataclass(frozen=True)
class PriceFiles:
    """Local, readable files of prices.

    Attributes
    ----------
    paths : tuple of Path
        Where they are on this machine.
    names : tuple of str
        What the user called them: as given or found, the URL if remote (without its secrets).
    """

    paths: tuple[Path, ...]
    names: tuple[str, ...]

    def fingerprint(self) -> str:
        """Return a SHA-256 over the files' formats and contents.

        File names, folder and order do not matter; one changed byte does.

        Raises
        ------
        PriceError
            A file cannot be read.
        """
        digests = []
        for path, name in zip(self.paths, self.names, strict=True):
            try:
                with path.open("rb") as stream:
                    content = hashlib.file_digest(stream, "sha256").hexdigest()
                digests.append(f"{file_format(path)} {content}\n")
            except OSError as error:
                raise PriceError(
                    f"{name} cannot be read: {error.strerror} — allow this user to read it"
                ) from error
        return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


@contextmanager
def open_prices(source: str | os.PathLike[str]) -> Iterator[PriceFiles]:
    """Find the files of `source` and have them at hand on this machine.

    Remote files are copied into a temporary folder first, which is removed at exit: they are
    read once, and cannot change between being hashed and being parsed.

    Parameters
    ----------
    source : str or path
        "sample", a file, a folder (its ``*.csv``, ``*.csv.gz`` and ``*.parquet``, not those of
        folders in it, nor hidden ones), a glob, or a URL that fsspec opens.

    Raises
    ------
    PriceError
        There is no such file, nothing matches, or a URL cannot be opened.
    """
    text = os.fspath(source)
    if text == SAMPLE and isinstance(source, str):
        yield PriceFiles((_SAMPLE_FILE,), (SAMPLE,))
    elif "://" in text or "::" in text:
        with tempfile.TemporaryDirectory(prefix="prices-") as folder:
            yield _fetch(text, Path(folder))
    else:
        try:
            paths = _find_local(text)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise PriceError(
                f"{text} cannot be opened: {reason} — check its folder's permissions and its name"
            ) from error
        yield PriceFiles(tuple(paths), tuple(map(str, paths)))


def could_be_read(path: Path, source: str) -> bool:
    """Whether a file, once it is there, is among those that `open_prices` finds of a source.

    Parameters
    ----------
    path : Path
        Absolute.
    source : str
        As `open_prices` takes it.
    """
    if source == SAMPLE or "://" in source or "::" in source:
        return False
    place = Path(source).expanduser().absolute()
    if place.is_dir():
        return path.parent.resolve() == place.resolve() and path.name.lower().endswith(_ENDINGS)
    return path.resolve() == place.resolve() or fnmatch(str(path), str(place))


def _find_local(text: str) -> list[Path]:
    if not text.strip():
        raise PriceError(f"prices is empty — give {SAMPLE!r}, a file, a folder, a glob or a URL")
    path = Path(text).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        inside = [entry.name for entry in path.iterdir() if entry.is_file()]
        return [path / name for name in _price_names(inside, text)]
    if glob.has_magic(text):
        # pathlib's own glob takes no absolute pattern and finds hidden files.
        matches = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207
        found = sorted(match for match in matches if match.is_file())
        if not found:
            raise PriceError(f"{text} matches no file — check the pattern{_nearest(path)}")
        return found
    if path.exists():
        raise PriceError(f"{text} is neither a file nor a folder — save the prices as a file")
    raise PriceError(f"{text} does not exist — check the spelling{_nearest(path)}")


def _price_names(names: Sequence[str], folder: str) -> list[str]:
    """Return those of a folder's file names that are prices, sorted."""
    found = [name for name in names if name.lower().endswith(_ENDINGS) and name[0] != "."]
    if not found:
        holds = f"it holds {first_of(sorted(names))}" if names else "it holds no files"
        raise PriceError(
            f"{folder} has no {', '.join(_ENDINGS)} file in it ({holds}) — put prices there, or"
            " give another folder; folders inside it are not searched"
        )
    return sorted(found)


def _nearest(path: Path) -> str:
    """Return the nearest names where the path ceases to exist, or what prices are there."""
    folder = next(parent for parent in path.parents if parent.is_dir())
    missing = path.relative_to(folder).parts[0]
    names = sorted(entry.name for entry in folder.iterdir())
    if near := difflib.get_close_matches(missing, names, n=3, cutoff=0.6):
        return f"; nearest in {folder.resolve()}: {first_of(near)}"
    holds = [name for name in names if name.lower().endswith(_ENDINGS)]
    return f"; {folder.resolve()} holds {first_of(holds) or 'no prices'}"


def _fetch(url: str, folder: Path) -> PriceFiles:
    """Copy what a URL stands for into `folder`."""
    try:
        filesystem, where = fsspec.core.url_to_fs(url)
        filesystem.invalidate_cache()
        remote = _find_remote(filesystem, where, url)
        paths = [folder / f"{i:06d}-{_base(path)}" for i, path in enumerate(remote)]
        for source, path in zip(remote, paths, strict=True):
            filesystem.get_file(source, os.fspath(path))
    except PriceError:
        raise
    except Exception as error:
        # Each filesystem raises errors of its own library. Not chained: their messages, and
        # so the traceback, may hold the keys in the URL.
        raise PriceError(f"{without_secrets(url)} cannot be opened: {_reason(error)}") from None
    names = [url] if remote == [where] else map(filesystem.unstrip_protocol, remote)
    return PriceFiles(tuple(paths), tuple(map(without_secrets, names)))


def _find_remote(filesystem: Any, where: str, url: str) -> list[str]:
    is_web = "http" in filesystem.protocol
    if any(sign in where for sign in ("*[" if is_web else "*?[")):
        found = sorted(path for path in filesystem.glob(where) if filesystem.isfile(path))
        if not found:
            raise PriceError(f"{without_secrets(url)} matches no file — check the pattern")
        return found
    # Asking a web server whether an address is a folder would download what is there.
    is_file = not where.endswith("/") if is_web else filesystem.isfile(where)
    if is_file:
        return [where]
    entries = filesystem.ls(where, detail=True)
    files = {_base(entry["name"]): entry["name"] for entry in entries if entry["type"] == "file"}
    return [files[name] for name in _price_names(list(files), without_secrets(url))]


def _base(path: str) -> str:
    return urlsplit(path).path.rstrip("/").rpartition("/")[2]


def without_secrets(text: str) -> str:
    """Blank out what may be secret in the URLs of a text: user and password, and queries.

    Examples
    --------
    >>> without_secrets("https://quant:s3cret@host/prices.csv?signature=abc")
    'https://host/prices.csv?…'
    """
    text = re.sub(r"(?<=://)[^/?#\s]*@", "", text)
    return re.sub(r"(https?://[^?\s]*)\?[^\s'\")]*", r"\1?…", text)


def _reason(error: Exception) -> str:
    if isinstance(error, ImportError):
        return f"{error} — install that package with pip"
    if isinstance(error, FileNotFoundError):
        return "there is no such file — check the address"
    if status := getattr(error, "status", None):
        return f"the server answered {status} — check the address and your permissions"
    told = without_secrets((str(error) or type(error).__name__).splitlines()[0])
    return f"{told} — check the address, the network and your keys"
