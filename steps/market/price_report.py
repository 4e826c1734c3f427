"""The one report that names everything that is wrong with some prices."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]
Place = Callable[[int], str]
"""Says where row i, counted from 0, stands in its file: "line 17" or "row 17"."""

SHOWN: Final = 10
"""Problems of one kind that are spelled out per file; the others are counted."""


class PriceError(ValueError):
    """Prices that cannot be used; the message is the report for the person who gave them."""


@dataclass
class Problems:
    """Collects what is wrong in any number of files, and says it all at once."""

    _lines: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    _counts: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, file: str, kind: str, *lines: str, count: int = 1) -> None:
        """Note `count` problems of one kind in `file`; `lines` describe the first of them."""
        shown = self._lines.setdefault(file, {}).setdefault(kind, [])
        shown.extend(lines[: SHOWN - len(shown)])
        self._counts[file, kind] = self._counts.get((file, kind), 0) + count

    def add_cells(
        self,
        file: str,
        kind: str,
        place: Place,
        flags: Mapping[str, Flags],
        say: Callable[[str, int], str],
    ) -> None:
        """Note every flagged cell, in the order of rows.

        Parameters
        ----------
        file, kind : str
            The file's name, and what the problem is called when there are too many to show.
        place : callable
            Says where a row stands in the file.
        flags : mapping of str to ndarray of bool, shape (n_rows,)
            For each column the rows that have this problem; the column "" is the row as a whole.
        say : callable
            Describes the problem, given the column and the row.
        """
        found = {column: np.flatnonzero(rows) for column, rows in flags.items() if rows.any()}
        if not found:
            return
        cells = [(row, column) for column in found for row in found[column][:SHOWN].tolist()]
        cells.sort(key=itemgetter(0))
        lines = [
            f"{place(row)}{f', column {column}' if column else ''}: {say(column, row)}"
            for row, column in cells[:SHOWN]
        ]
        self.add(file, kind, *lines, count=sum(len(rows) for rows in found.values()))

    def __bool__(self) -> bool:
        return bool(self._lines)

    def raise_if_any(self) -> None:
        """Raise `PriceError` with the whole report if anything was noted."""
        if self._lines:
            raise PriceError(str(self))

    def __str__(self) -> str:
        return "\n".join(line for file in self._lines for line in self._report(file))

    def _report(self, file: str) -> Iterable[str]:
        kinds = self._lines[file]
        total = sum(self._counts[file, kind] for kind in kinds)
        yield f"{file} cannot be used: {counted(total, 'problem')}"
        for kind, lines in kinds.items():
            yield from (f"  {line}" for line in lines)
            if more := self._counts[file, kind] - len(lines):
                yield f"  and {more} more: {kind}"


def counted(number: int, noun: str) -> str:
    """Return "1 row", "2 rows", "12,154 rows"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def first_of(names: Iterable[str], limit: int = SHOWN) -> str:
    """Return the names in one line, at most `limit` of them, then how many more there are."""
    every = list(names)
    more = len(every) - limit
    return ", ".join(every[:limit]) + (f" and {more} more" if more > 0 else "")
