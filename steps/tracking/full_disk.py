"""Whether something went wrong for want of room."""

from __future__ import annotations

import errno
import os
from typing import Final

_WORDS: Final = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT))


def is_full(error: BaseException | None) -> bool:
    """Whether an error began with a disk that is full, or a user's share of it.

    MLflow keeps the words alone of what went wrong with a file.
    """
    while error is not None:
        if any(words in str(error) for words in _WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False
