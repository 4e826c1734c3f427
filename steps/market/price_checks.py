"""Checks on prices that have been read: values that cannot be, rows that contradict another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from steps.market.price_report import SHOWN, Flags, Place, Problems

Numbers = npt.NDArray[np.float64]
Offsets = npt.NDArray[np.int16]
Days = npt.NDArray[np.datetime64]
Symbols = npt.NDArray[np.object_]
Codes = npt.NDArray[np.intp]

NO_ZONE: Final = 9999
"""Stands for "no time zone" among offsets from UTC in minutes."""

ROUNDING: Final = 1e-9
"""Relative distance by which open or close may leave [low, high]: rounding, not an error."""


@dataclass(frozen=True)
class ParsedFile:
    """One file's columns, row by row; what could not be parsed is missing.

    Attributes
    ----------
    name : str
        What the user called the file.
    place : callable
        Says where a row stands in the file.
    days : ndarray of datetime64[s], shape (n_rows,)
    offsets : ndarray of int16, shape (n_rows,)
        Offset of the date's time zone from UTC in minutes, `NO_ZONE` without one.
    symbols : ndarray of object, shape (n_symbols,)
        The distinct symbols; "" for a blank one.
    codes : ndarray of int, shape (n_rows,)
        Each row's index into `symbols`.
    numbers : dict of str to ndarray of float64, shape (n_rows,)
        open, high, low, close, volume and, where the file has it, adj_close.
    """

    name: str
    place: Place
    days: Days
    offsets: Offsets
    symbols: Symbols
    codes: Codes
    numbers: dict[str, Numbers]


def check_values(file: ParsedFile, problems: Problems) -> None:
    """Note prices and volumes of one file that cannot be."""
    written = file.numbers

    def note(kind: str, flags: dict[str, Flags], say: Callable[[str, int], str]) -> None:
        problems.add_cells(file.name, kind, file.place, flags, say)

    def value(column: str, row: int) -> str:
        return repr(float(written[column][row]))

    note(
        "infinite number",
        {column: np.isinf(values) for column, values in written.items()},
        lambda column, row: f"{value(column, row)} is infinite — write the number",
    )
    # One problem per cell: what is infinite is not also "outside low to high".
    numbers = {c: np.where(np.isinf(values), np.nan, values) for c, values in written.items()}
    low, high = numbers["low"], numbers["high"]
    note(
        "price not above zero",
        {column: values <= 0 for column, values in numbers.items() if column != "volume"},
        lambda column, row: (
            f"{value(column, row)} is not above zero — write the price, or delete the row"
        ),
    )
    note(
        "negative volume",
        {"volume": numbers["volume"] < 0},
        lambda column, row: (
            f"{value(column, row)} is negative — write the shares traded, 0 for none"
        ),
    )
    note(
        "high below low",
        {"": high < low},
        lambda _, row: (
            f"high {value('high', row)} is below low {value('low', row)} — correct or swap them"
        ),
    )
    slack = ROUNDING * np.abs(high)
    note(
        "outside low to high",
        {
            column: (low <= high)
            & ((numbers[column] < low - slack) | (numbers[column] > high + slack))
            for column in ("open", "close")
        },
        lambda column, row: (
            f"{value(column, row)} is outside low {value('low', row)} to high {value('high', row)}"
            " — correct the one that is wrong"
        ),
    )
    if "adj_close" in numbers:
        note(
            "adj_close out of proportion",
            {"adj_close": _immoderate(numbers)},
            lambda column, row: (
                f"{value(column, row)} against a close of {value('close', row)} takes prices or"
                " volume out of the range of numbers — correct the one that is wrong"
            ),
        )


def _immoderate(numbers: dict[str, Numbers]) -> Flags:
    """Return where adjusting positive, finite prices would give 0 or infinity."""
    with np.errstate(all="ignore"):
        factor = numbers["adj_close"] / numbers["close"]
        bad = (numbers["low"] * factor <= 0) | np.isinf(numbers["high"] * factor)
        bad |= np.isinf(numbers["volume"] / factor)
    return bad & (numbers["adj_close"] > 0) & (numbers["close"] > 0) & (numbers["low"] > 0)


def check_together(files: Sequence[ParsedFile], problems: Problems) -> None:
    """Note rows that contradict another, in one file or across several.

    That is: time zones that differ, `adj_close` in some files only, and two rows for one symbol
    and date.
    """
    rows = _AllRows(files)
    _check_adjusted(files, problems)
    _check_zones(rows, problems)
    _check_duplicates(rows, problems)


def merge_symbols(files: Sequence[ParsedFile]) -> tuple[Symbols, Codes]:
    """Return the sorted distinct symbols of all files, and each row's index into them."""
    symbols, merged = np.unique(
        np.concatenate([file.symbols for file in files]), return_inverse=True
    )
    pieces = np.split(merged, np.cumsum([len(file.symbols) for file in files])[:-1])
    codes = [piece[file.codes] for piece, file in zip(pieces, files, strict=True)]
    return symbols, np.concatenate(codes)


class _AllRows:
    """The rows of all files, numbered through, and the way back to a place in a file."""

    def __init__(self, files: Sequence[ParsedFile]) -> None:
        self.files = files
        self.days = np.concatenate([file.days for file in files])
        self.offsets = np.concatenate([file.offsets for file in files])
        self.starts = np.cumsum([0, *(len(file.days) for file in files)])

    def file_of(self, row: int) -> ParsedFile:
        return self.files[int(np.searchsorted(self.starts, row, side="right")) - 1]

    def place(self, row: int, seen_from: ParsedFile) -> str:
        number = int(np.searchsorted(self.starts, row, side="right")) - 1
        file = self.files[number]
        where = file.place(row - int(self.starts[number]))
        return where if file is seen_from else f"{where} of {file.name}"


def _check_adjusted(files: Sequence[ParsedFile], problems: Problems) -> None:
    adjusted = [file.name for file in files if "adj_close" in file.numbers]
    for file in files:
        if adjusted and "adj_close" not in file.numbers:
            problems.add(
                file.name,
                "missing column",
                f"column adj_close is missing here, but {adjusted[0]} has it — add it here, or"
                " give all files adjusted prices without that column",
            )


def _check_zones(rows: _AllRows, problems: Problems) -> None:
    clash = clashing_zones(rows.days, rows.offsets)
    if clash is None:
        return
    first, second = clash
    file = rows.file_of(second)
    problems.add(
        file.name,
        "mixed time zones",
        f"column date: time zones are mixed, {_zone(rows.offsets[second])} on"
        f" {rows.place(second, file)} and {_zone(rows.offsets[first])} on"
        f" {rows.place(first, file)} — write all dates in one zone, or as plain dates (2020-01-31)",
    )


def clashing_zones(days: Days, offsets: Offsets) -> tuple[int, int] | None:
    """Return two rows whose time zones differ, or None; how often a row is there does not matter.

    Two offsets at most an hour apart that share no date are one zone: summer and winter time.
    """
    known = np.flatnonzero(~np.isnat(days))
    found, first = np.unique(offsets[known], return_index=True)
    if len(found) < 2:
        return None
    if len(found) == 2 and int(found[1]) - int(found[0]) <= 60:
        late = offsets[known] == found[1]
        both = np.intersect1d(days[known][late], days[known][~late])
        if not len(both):
            return None
        shared = days[known] == both[0]
        first = np.array([np.flatnonzero(shared & side)[0] for side in (~late, late)])
    one, other = sorted(known[first[[0, -1]]].tolist())
    return one, other


def _zone(offset: int) -> str:
    if offset == NO_ZONE:
        return "no zone"
    hours, minutes = divmod(abs(int(offset)), 60)
    return f"UTC{'-' if offset < 0 else '+'}{hours:02d}:{minutes:02d}"


def _check_duplicates(rows: _AllRows, problems: Problems) -> None:
    symbols, codes = merge_symbols(rows.files)
    known = np.flatnonzero(~np.isnat(rows.days) & (symbols != "")[codes])
    # lexsort is stable: of two equal rows, the later one follows the earlier.
    order = known[np.lexsort((rows.days[known], codes[known]))]
    codes_there, days_there = codes[order], rows.days[order]
    again = (codes_there[1:] == codes_there[:-1]) & (days_there[1:] == days_there[:-1])
    earlier = dict(zip(order[1:][again].tolist(), order[:-1][again].tolist(), strict=True))
    later = np.sort(order[1:][again])
    for file, start, stop in zip(rows.files, rows.starts, rows.starts[1:], strict=False):
        mine = later[(later >= start) & (later < stop)]
        lines = [
            f"{rows.place(row, file)}: {symbols[codes[row]]} on {str(rows.days[row])[:10]} is also"
            f" on {rows.place(earlier[row], file)} — keep one row per symbol and day"
            for row in mine[:SHOWN].tolist()
        ]
        if lines:
            problems.add(file.name, "duplicate", *lines, count=len(mine))
