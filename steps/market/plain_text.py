"""Text from elsewhere, before it goes where it could do more than be read."""

import re
from typing import Final

SYMBOL_LIMIT: Final = 200
"""The longest symbol, in characters."""

# What terminals and browsers do not show but obey: control characters, and those that turn the
# direction of what follows.
_UNSEEN: Final = r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
_ANY_UNSEEN: Final = re.compile(f"[{_UNSEEN}]")
_UNSEEN_IN_LINES: Final = re.compile(rf"(?![\n\t])[{_UNSEEN}]")


def is_symbol(text: str) -> bool:
    """Whether a text can be a symbol: not too long, and nothing in it that is obeyed, not shown."""
    return len(text) <= SYMBOL_LIMIT and _ANY_UNSEEN.search(text) is None


def show_unseen(text: str) -> str:
    r"""Write what a terminal would obey as it is written in Python; lines and tabs stay.

    Examples
    --------
    >>> show_unseen("\x1b[31mred")
    '\\x1b[31mred'
    """
    return _UNSEEN_IN_LINES.sub(lambda found: ascii(found.group())[1:-1], text)
