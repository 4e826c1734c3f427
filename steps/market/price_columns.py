"""Turns a file's Arrow columns into days, symbols and numbers, and notes what is none."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from steps.market.plain_text import SYMBOL_LIMIT, is_symbol
from steps.market.price_checks import (
    NO_ZONE,
    Codes,
    Days,
    Numbers,
    Offsets,
    ParsedFile,
    Symbols,
)
from steps.market.price_report import Flags, Problems
from steps.market.price_tables import RawFile

_DAY: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8})([T ].+)?")
_NUMBER: Final = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?$|^[+-]?(inf|infinity)$"
_MISSING: Final = ["", "-", "na", "n/a", "#n/a", "<na>", "nan", "nat", "none", "null"]
_NUMBERS: Final = ("open", "high", "low", "close", "volume")
_NO_DAY: Final = np.datetime64("NaT", "s")
_QUOTED: Final = 100  # characters of a cell that a report quotes

_WANTED: Final = {
    "date": "2020-01-31 or 20200131",
    "symbol": "text such as AAPL",
    **dict.fromkeys(("open", "high", "low", "close", "adj_close"), "12.34"),
    "volume": "1200",
}


class _WrongTypeError(TypeError):
    """A column is of a type that cannot hold its values."""


def parse_file(raw: RawFile, problems: Problems) -> ParsedFile:
    """Parse all columns of one file; note each cell that is missing or cannot be parsed.

    Columns that the file lacks, or that are of a type that cannot hold their values, are noted
    once, not per row, and are unknown in the result.
    """
    days: Days = np.full(raw.rows, _NO_DAY)
    offsets = np.full(raw.rows, NO_ZONE, np.int16)
    symbols, codes = np.array([""], dtype=object), np.zeros(raw.rows, np.intp)
    numbers = {column: np.full(raw.rows, np.nan) for column in _NUMBERS}
    texts: dict[str, pa.ChunkedArray] = {}
    missing: dict[str, Flags] = {}
    bad: dict[str, Flags] = {}
    for column, values in raw.columns.items():
        try:
            texts[column] = _plain(values)
            if column == "date":
                days, offsets, bad[column] = _parse_days(texts[column])
                missing[column] = np.isnat(days) & ~bad[column]
            elif column == "symbol":
                symbols, codes = _parse_symbols(texts[column])
                missing[column] = (symbols == "")[codes]
            else:
                numbers[column], bad[column] = _parse_numbers(texts[column])
                missing[column] = np.isnan(numbers[column]) & ~bad[column]
        except (_WrongTypeError, pa.ArrowException) as error:
            text = f"column {column}: {str(error).splitlines()[0]}"
            problems.add(raw.name, "wrong type", f"{text} — write it as {_WANTED[column]}")

    def note(kind: str, flags: dict[str, Flags], say: Callable[[str, int], str]) -> None:
        problems.add_cells(raw.name, kind, raw.place, flags, say)

    def text_of(column: str, row: int) -> str:
        cell = texts[column][row].as_py()
        long = isinstance(cell, str) and len(cell) > _QUOTED
        return repr(f"{cell[:_QUOTED]}…" if long else cell)

    note(
        "missing value",
        missing,
        lambda column, _: f"the value is missing — write {_WANTED[column]}, or delete the row",
    )
    note(
        "not a date",
        {"date": bad.pop("date")} if "date" in bad else {},
        lambda column, row: (
            f"{text_of(column, row)} is not a date in ISO form — write it as {_WANTED[column]}"
        ),
    )
    note(
        "not a number",
        bad,
        lambda column, row: (
            f"{text_of(column, row)} is not a number — write it as {_WANTED[column]}"
        ),
    )
    odd = np.array([not is_symbol(symbol) for symbol in symbols], dtype=bool)
    note(
        "not a symbol",
        {"symbol": odd[codes]} if odd.any() else {},
        lambda column, row: (
            f"{text_of(column, row)} holds control characters, or more than {SYMBOL_LIMIT} "
            f"characters — write {_WANTED[column]}"
        ),
    )
    return ParsedFile(raw.name, raw.place, days, offsets, symbols, codes, numbers)


def _plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Undo dictionary encoding; make texts of all kinds, and of decimals, plain strings."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    kind = values.type
    # Decimals go through text because Arrow's own conversion to float64 is off by one bit.
    textual = pa.types.is_decimal(kind) or pa.types.is_null(kind) or _is_text(kind)
    return pc.utf8_trim_whitespace(values.cast(pa.string())) if textual else values


def _is_text(kind: pa.DataType) -> bool:
    tests = "string large_string string_view binary large_binary binary_view fixed_size_binary"
    return any(getattr(pa.types, f"is_{name}")(kind) for name in tests.split())


def _parse_symbols(values: pa.ChunkedArray) -> tuple[Symbols, Codes]:
    if pa.types.is_integer(values.type):
        values = values.cast(pa.string())
    if not pa.types.is_string(values.type):
        raise _WrongTypeError(f"it holds {values.type}, not text")
    encoded = values.fill_null("").dictionary_encode().combine_chunks()
    symbols = np.array(encoded.dictionary.to_pylist(), dtype=object)
    return symbols, encoded.indices.to_numpy().astype(np.intp)


def _parse_numbers(values: pa.ChunkedArray) -> tuple[Numbers, Flags]:
    """Return the numbers, NaN where missing or no number, and where they are no number."""
    kind = values.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _to_floats(values.cast(pa.float64(), safe=False)), np.zeros(len(values), bool)
    if not pa.types.is_string(kind):
        raise _WrongTypeError(f"it holds {kind}, not numbers")
    try:
        return _to_floats(values.cast(pa.float64())), np.zeros(len(values), bool)
    except pa.ArrowInvalid:
        lower = pc.utf8_lower(values.fill_null(""))
        missing = pc.is_in(lower, value_set=pa.array(_MISSING))
        number = pc.match_substring_regex(lower, _NUMBER)
        kept = pc.if_else(number, lower, pa.scalar(None, pa.string())).cast(pa.float64())
        bad = pc.invert(pc.or_(missing, number))
        return _to_floats(kept), bad.to_numpy().astype(bool)


def _to_floats(values: pa.ChunkedArray) -> Numbers:
    floats: Numbers = values.to_numpy().astype(np.float64, copy=False)
    return floats


def _parse_days(values: pa.ChunkedArray) -> tuple[Days, Offsets, Flags]:
    """Return each row's calendar date, its offset from UTC, and where it is no date."""
    kind = values.type
    if pa.types.is_integer(kind):
        values = values.cast(pa.string())
    if pa.types.is_string(values.type):
        return _parse_day_texts(values)
    if not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        raise _WrongTypeError(f"it holds {kind}, not dates")
    nothing_bad = np.zeros(len(values), bool)
    offsets = np.full(len(values), NO_ZONE, np.int16)
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        local = pc.local_timestamp(values).to_numpy()
        shift = (local - values.cast(pa.timestamp(kind.unit)).to_numpy()).astype("timedelta64[m]")
        known = ~np.isnat(shift)
        offsets[known] = shift[known].astype(np.int16)
    else:
        local = values.to_numpy()
    return _midnight(local), offsets, nothing_bad


def _parse_day_texts(values: pa.ChunkedArray) -> tuple[Days, Offsets, Flags]:
    encoded = values.fill_null("").dictionary_encode().combine_chunks()
    texts = encoded.dictionary.to_pylist()
    parsed = [_parse_day(text) for text in texts]
    rows = encoded.indices.to_numpy()
    days = np.array([day for day, _ in parsed], dtype="datetime64[D]")
    offsets = np.array([offset for _, offset in parsed], dtype=np.int16)
    blank = np.array([text.lower() in _MISSING for text in texts], dtype=bool)
    return _midnight(days[rows]), offsets[rows], (np.isnat(days) & ~blank)[rows]


def _parse_day(text: str) -> tuple[str, int]:
    """Return the calendar date, "NaT" if there is none, and the offset from UTC in minutes."""
    if _DAY.fullmatch(text) is None:
        return "NaT", NO_ZONE
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return "NaT", NO_ZONE
    offset = moment.utcoffset()
    minutes = NO_ZONE if offset is None else int(offset.total_seconds() // 60)
    return moment.date().isoformat(), minutes


def _midnight(moments: Days) -> Days:
    """Drop the time of day; NumPy rounds days down, also before 1970."""
    days: Days = moments.astype("datetime64[D]").astype("datetime64[s]")
    return days
