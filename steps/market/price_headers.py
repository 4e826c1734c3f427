"""Finds the columns of the prices table among the titles of a file."""

import difflib
import re
from collections.abc import Sequence
from typing import Final

from steps.market.price_report import Problems, first_of

REQUIRED: Final = ("date", "symbol", "open", "high", "low", "close", "volume")
ADJUSTED: Final = "adj_close"
COLUMNS: Final = (*REQUIRED, ADJUSTED)

_OTHER_NAMES: Final = {
    "date": {"datetime", "timestamp", "time", "day", "trade_date", "trading_date", "index"},
    "symbol": {"ticker", "sym", "code", "instrument", "name", "asset", "security", "stock", "isin"},
    "open": {"o", "open_price", "px_open", "opening"},
    "high": {"h", "high_price", "px_high", "max"},
    "low": {"l", "low_price", "px_low", "min"},
    "close": {"c", "close_price", "px_last", "last", "price", "closing"},
    "volume": {"v", "vol", "qty", "quantity", "shares", "total_volume"},
    ADJUSTED: {"adjclose", "adjusted_close", "adj._close", "adjusted", "close_adj"},
}


def find_columns(titles: Sequence[str], name: str, problems: Problems) -> dict[str, int]:
    """Return where each column stands; note those that are missing or there twice.

    Titles count in any case, with blanks around them, and with blanks or hyphens for underscores.
    """
    folded = [re.sub(r"[\s_-]+", "_", title.strip().casefold()) for title in titles]
    found: dict[str, int] = {}
    if not any(fold in COLUMNS for fold in folded) and len(titles) == 1:
        problems.add(name, "missing column", _one_title(titles[0]))
        return found
    for column in COLUMNS:
        same = [title for title, fold in zip(titles, folded, strict=True) if fold == column]
        if len(same) == 1:
            found[column] = folded.index(column)
        elif same:
            text = f"column {column} is there {len(same)} times, as {first_of(map(repr, same))}"
            problems.add(name, "duplicate column", f"{text} — keep one of them")
        elif text := _missing(column, titles, folded):
            problems.add(name, "missing column", text)
    return found


def _missing(column: str, titles: Sequence[str], folded: Sequence[str]) -> str:
    """Return what to say of a column that is not there; nothing if it need not be."""
    free = [fold for fold in folded if fold not in COLUMNS]
    near = [fold for fold in free if fold in _OTHER_NAMES[column]]
    if column != ADJUSTED:
        near = near or difflib.get_close_matches(column, free, n=2, cutoff=0.7)
    named = " or ".join(
        repr(title) for title, fold in zip(titles, folded, strict=True) if fold in near
    )
    if column == ADJUSTED:
        # Not adjusting because of a title's spelling would be silent and wrong.
        text = f"column {named} looks like {column} — rename it to {column}, or delete it if the"
        return f"{text} prices are adjusted already" if named else ""
    if named:
        return f"column {column} is missing — rename {named} to {column}"
    there = first_of(map(repr, titles)) or "no columns"
    return f"column {column} is missing, there are {there} — add it"


def _one_title(title: str) -> str:
    """Return what to say of a file that seems to have one column of a foreign title."""
    text = f"the first line is {title[:100]!r}, not the titles {','.join(REQUIRED)} — "
    if separator := re.search(r"[;\t|]", title):
        return f"{text}separate the fields with commas instead of {separator[0]!r}"
    return f"{text}give a file of prices with these titles in its first line"
