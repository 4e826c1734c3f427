"""What a stored model needs to have installed, at the versions it was made with."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution, version
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_NEEDED: Final = {
    "xgboost": ("mlflow", "xgboost", "scikit-learn", "numpy", "pandas"),
    "sklearn": ("mlflow", "scikit-learn", "skops", "numpy", "pandas"),
}
_FOR_PRICES: Final = ("pyarrow", "TA-Lib")


def pinned(flavor: str, *, takes_prices: bool = False) -> list[str]:
    """Return the requirements of a model at the versions installed here.

    Parameters
    ----------
    flavor : {"xgboost", "sklearn"}
    takes_prices : bool
        Whether it computes features, too.
    """
    names = _NEEDED[flavor] + (_FOR_PRICES if takes_prices else ())
    return [f"{name}=={version(name)}" for name in names]


def constraints(requirements: Iterable[str]) -> list[str]:
    """Pin everything that some requirements bring along, as far as it is installed here.

    An environment that is built in a year from the requirements alone would take the newest of what
    they depend on, and need not work.

    Returns
    -------
    list of str
        Sorted; the requirements themselves included.
    """
    waiting = [Requirement(each) for each in requirements]
    asked: set[tuple[str, frozenset[str]]] = set()
    found: dict[str, str] = {}
    while waiting:
        requirement = waiting.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in asked:
            continue
        asked.add((name, extras))
        try:
            told = distribution(name).metadata  # is read from a file, whenever it is asked for
        except PackageNotFoundError:  # for another platform
            continue
        found[name] = told["Version"]
        for text in told.get_all("Requires-Dist") or ():
            inner = Requirement(text)
            wanted = extras or {""}
            if inner.marker is None or any(inner.marker.evaluate({"extra": e}) for e in wanted):
                waiting.append(inner)
    return [f"{name}=={found[name]}" for name in sorted(found)]
