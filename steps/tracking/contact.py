"""Whether a store answers, as far as this process knows; and waiting until it does again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, Final, Protocol, TypeVar, cast

import mlflow
from mlflow.exceptions import MlflowException

from steps.tracking.reachable import why_artifacts_away, why_away
from steps.tracking.settings import load_settings, redact
from steps.tracking.stores import TrackingError, first_line

_SOONEST: Final = 5.0  # seconds until an absent store is asked again,
_LATEST: Final = 60.0  # and up to which that grows
_POLL: Final = 1.0  # seconds

_log = logging.getLogger(__name__)
Result = TypeVar("Result")


class Sender(Protocol):
    """Somebody with messages that wait for the store."""

    def flush(self) -> None:
        """Deliver them, as far as that is possible now."""


class Contact:
    """What this process knows of a store.

    Parameters
    ----------
    store : str
        The tracking URI.

    Attributes
    ----------
    senders : list of Sender
        Told when the store is back, in this order, before anybody reads from it.
    lock : RLock
        For the senders: threads with runs of their own deliver for one another.
    """

    def __init__(self, store: str) -> None:
        self._store = store
        self._artifacts: str | None = None
        self._met = False
        self._away_since: float | None = None
        self._ask_again = 0.0
        self._pause = _SOONEST
        self._is_returning = False
        self.senders: list[Sender] = []
        self.lock = threading.RLock()

    def lost(self, error: Exception, artifact_uri: str | None = None) -> bool:
        """Tell whether an error came of a store that is away; if so, keep it in mind.

        A store that answers is not away, whatever it answers.
        """
        if not self._met or is_refusal(error):
            return False
        reason = why_away(self._store)
        if reason is None and artifact_uri is not None:
            reason = why_artifacts_away(artifact_uri, self._store)
            self._artifacts = artifact_uri if reason else None
        if reason is None:
            return False
        if self._away_since is None:
            _log.warning(
                "%s is away (%s). The run goes on: what it logs is kept on this machine and "
                "delivered when the store is back, or by `python -m steps.sync`",
                redact(self._artifacts or self._store),
                reason,
            )
            self._away_since = time.monotonic()
            self._pause = _SOONEST
        self._ask_again = time.monotonic() + self._pause
        return True

    @property
    def is_away(self) -> bool:
        """Whether the store is away: asked anew now and then."""
        if self._away_since is None or self._is_returning:
            return False
        if time.monotonic() < self._ask_again:
            return True
        with self.lock:
            return self._is_still_away()

    def _is_still_away(self) -> bool:
        if self._away_since is None or self._is_returning:  # while this thread waited for its turn
            return False
        if why_away(self._store) or (
            self._artifacts and why_artifacts_away(self._artifacts, self._store)
        ):
            self._pause = min(_LATEST, 2 * self._pause)
            self._ask_again = time.monotonic() + self._pause
            return True
        self._welcome(time.monotonic() - self._away_since)
        return self._away_since is not None

    def _welcome(self, seconds: float) -> None:
        """Let all who have something to deliver do it: others want to read it."""
        self._is_returning, since = True, self._away_since
        self._away_since = None
        declined = False
        try:
            for sender in list(self.senders):
                try:
                    sender.flush()
                except Exception as error:  # theirs alone: others have their own to deliver
                    declined = True
                    _log.warning("not all could be delivered: %s", first_line(error))
                if self._away_since is not None:  # gone again
                    self._away_since = since
                    return
        finally:
            self._is_returning = False
        self._artifacts = None
        has = "the rest" if declined else "everything"
        _log.warning("%s is back after %.0f s: it has %s", redact(self._store), seconds, has)

    def patiently(self, call: Callable[[], Result], artifact_uri: str | None = None) -> Result:
        """Call, and where the store is away meanwhile, wait and call again.

        Parameters
        ----------
        call : callable
        artifact_uri : str, optional
            What it needs besides the store itself.

        Raises
        ------
        TrackingError
            If it does not come back in time (``CANDLEWICK_PATIENCE`` seconds).
        """
        while True:
            if self.is_away:
                self._wait()
            try:
                result = call()
            except Exception as error:  # whether it is an outage, `lost` finds out
                if not self.lost(error, artifact_uri):
                    raise
            else:
                self._met = True
                return result

    def _wait(self) -> None:
        patience = load_settings().CANDLEWICK_PATIENCE
        _log.warning("waiting for %s, up to %d minutes", redact(self._store), patience / 60)
        until = time.monotonic() + patience
        while self.is_away:
            if time.monotonic() > until:
                raise TrackingError(
                    f"{redact(self._store)} did not come back within {patience / 60:.0f} minutes. "
                    "Nothing is lost: when it is back, `python -m steps.sync` delivers what was "
                    "logged, and the steps after that can be run one by one"
                )
            time.sleep(_POLL)


@cache
def contact_with(store: str) -> Contact:
    """Return this process's contact with a store."""
    return Contact(store)


def is_refusal(error: Exception) -> bool:
    """Whether the store has understood and declined, which asking again would not change."""
    if isinstance(error, MlflowException):
        # MLflow says BAD_REQUEST, too, where its connection to the database has broken.
        is_last_word = error.error_code != "BAD_REQUEST"
        status = int(error.get_http_status_code())
        return is_last_word and 400 <= status < 500 and status not in (408, 429)
    # An answer that is no JSON is a ValueError, too: a proxy's, while it waits for the server.
    return isinstance(error, ValueError | TypeError) and not isinstance(error, OSError)


class _PatientClient:
    """An MlflowClient whose questions wait for a store that is away.

    Only questions: a change that failed half way may have been made.
    """

    def __init__(self, client: mlflow.MlflowClient, contact: Contact) -> None:
        self._client = client
        self._contact = contact

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not name.startswith(("get_", "search_", "list_", "download_")):
            return found

        @wraps(found)
        def ask(*arguments: Any, **named: Any) -> Any:
            return self._contact.patiently(lambda: found(*arguments, **named))

        return ask


def patient(client: mlflow.MlflowClient, contact: Contact) -> mlflow.MlflowClient:
    """Return the client, its questions waiting where the store is away."""
    return cast(mlflow.MlflowClient, _PatientClient(client, contact))
