"""The code a model carries with it: what it needs of this project, as a package of its own.

The package is named after its content. So a model finds its own code also where this project, or
another model with other code, is loaded in the same process.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parents[1]
_PACKAGE: Final = _ROOT.name
_IMPORT: Final = re.compile(rf"^(\s*(?:from|import)\s+){_PACKAGE}(?=[.\s])", re.MULTILINE)


class MissingCodeError(ValueError):
    """The code to carry is not complete."""


@dataclass(frozen=True)
class CarriedCode:
    """A package that can be imported by itself.

    Attributes
    ----------
    package : str
        Its name.
    files : mapping of str to str
        Path within the package, and content.
    """

    package: str
    files: Mapping[str, str]

    def write(self, folder: Path) -> Path:
        """Write the package into a folder; return the package's own."""
        for path, text in self.files.items():
            file = folder / self.package / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return folder / self.package


def carry(entry: str, market: Mapping[str, str]) -> CarriedCode:
    """Gather a module and all it imports of this project, directly or not.

    Parameters
    ----------
    entry : str
        The module's path within `steps`, such as ``serving/price_model.py``.
    market : mapping of str to str
        File names and contents of `steps/market`, taken from here instead of from this checkout:
        the code that a snapshot was made with.

    Raises
    ------
    MissingCodeError
        If something that is imported is not there.
    """
    needed: dict[str, str] = {}
    waiting = [entry]
    while waiting:
        path = waiting.pop()
        if path in needed:
            continue
        source = _read(path, market)
        if source is None:
            raise MissingCodeError(f"{path} is missing in the code that the model is to carry")
        needed[path] = source
        waiting += [f"{parent}/__init__.py" for parent in Path(path).parents if parent.name]
        waiting += _imported(source, market)
    needed.setdefault("__init__.py", _read("__init__.py", market) or "")
    ordered = dict(sorted(needed.items()))
    digest = hashlib.sha256()
    for path, source in ordered.items():
        digest.update(f"{path}\0{source}\0".encode())
    package = f"candlewick_{digest.hexdigest()[:12]}"
    renamed = {path: _IMPORT.sub(rf"\1{package}", source) for path, source in ordered.items()}
    return CarriedCode(package, renamed)


def _read(path: str, market: Mapping[str, str]) -> str | None:
    if path.startswith("market/"):
        return market.get(path.removeprefix("market/"))
    file = _ROOT / path
    return file.read_text(encoding="utf-8") if file.is_file() else None


def _imported(source: str, market: Mapping[str, str]) -> Iterator[str]:
    """Yield the files of this project that a module imports from."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and not node.level:
            modules, members = [node.module or ""], [each.name for each in node.names]
        elif isinstance(node, ast.Import):
            modules, members = [each.name for each in node.names], []
        else:
            continue
        for module in modules:
            first, *inner = module.split(".")
            if first != _PACKAGE:
                continue
            folder = "/".join(inner)
            inside = [f"{folder}/{name}.py".removeprefix("/") for name in members]
            yield from (path for path in inside if _read(path, market) is not None)
            if inner:
                is_file = _read(f"{folder}.py", market) is not None
                is_package = _read(f"{folder}/__init__.py", market) is not None
                yield f"{folder}/__init__.py" if is_package and not is_file else f"{folder}.py"
