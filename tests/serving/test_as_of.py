"""The day that ages are counted from."""

from datetime import UTC, date, datetime, timedelta

import pytest

from steps.serving.as_of import resolve_as_of

LAST = date(2024, 3, 1)


def test_a_day_is_itself_and_words_stand_for_days() -> None:
    assert resolve_as_of(date(2024, 3, 4), LAST) == date(2024, 3, 4)
    assert resolve_as_of(LAST, LAST) == LAST
    assert resolve_as_of("newest", LAST) == LAST
    before = datetime.now(UTC).date()
    assert before <= resolve_as_of("today", LAST) <= datetime.now(UTC).date()


def test_a_market_may_be_ahead_of_utc() -> None:
    tomorrow = datetime.now(UTC).date() + timedelta(days=2)
    assert resolve_as_of("today", tomorrow) == tomorrow


def test_prices_that_go_on_after_the_day_are_refused() -> None:
    with pytest.raises(ValueError, match="as_of=2024-02-29, but the prices go on to 2024-03-01"):
        resolve_as_of(date(2024, 2, 29), LAST)
