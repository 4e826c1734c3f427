"""Code for a dask cluster's workers, which may know another version of this package, or none."""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

_STEPS: Final = Path(__file__).resolve().parents[1]


def versions_here(libraries: list[str]) -> dict[str, str]:
    """Return the versions of Python and of some libraries where this is called."""
    # Works where this package is not: all it needs is imported in it.
    import importlib.metadata
    import platform

    found = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for name in libraries:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def packed_code() -> bytes:
    """Return a zip of this package, equal for equal code."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(_STEPS.rglob("*.py")):
            name = path.relative_to(_STEPS.parent).as_posix()
            info = zipfile.ZipInfo(name)  # dated 1980
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, path.read_bytes())
    return packed.getvalue()


class AsIs:
    """A function that workers receive whole, not by the name of a module they may not have."""

    def __init__(self, function: Callable[..., Any]) -> None:
        import cloudpickle

        module = sys.modules[function.__module__]
        cloudpickle.register_pickle_by_value(module)
        try:
            self._pickled = cloudpickle.dumps(function)
        finally:
            cloudpickle.unregister_pickle_by_value(module)

    def __call__(self) -> None:
        """Be callable, as dask expects."""
        raise TypeError("is called on workers alone")

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self._pickled,)


def call_there(archive: str, function: bytes, item: Any) -> Any:
    """Call a function of the package in an archive, on a worker that may know another one."""
    import importlib
    import pickle
    import sys
    from pathlib import Path

    from distributed import get_worker

    path = str(Path(get_worker().local_directory, archive))
    known = sys.modules.get("steps")
    if known is None or not str(known.__file__).startswith(path):
        for name in [n for n in sys.modules if n.partition(".")[0] == "steps"]:
            del sys.modules[name]
        sys.path.insert(0, path)
        importlib.invalidate_caches()
    return pickle.loads(function)(item)  # noqa: S301 (from the client, as the code is)
