"""Is it there? One short question to a tracking store, or to the place where artifacts go.

MLflow's own clients ask again for minutes before they give up. Here the answer, or that there is
none, is known within three seconds, and says what to do about it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import sqlite3
import threading
import uuid
from collections.abc import Callable
from contextlib import closing, suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlparse
from urllib.request import url2pathname

from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from steps.tracking.settings import redact

PATIENCE: Final = 2.5
"""Seconds until a silent store counts as away."""
_SECOND_PATIENCE: Final = 20.0
"""Seconds for one that takes connections, but is too busy to answer soon."""
_API: Final = "/api/2.0/mlflow"
_BUSY: Final = (408, 429)  # the server asks to come again later, like one that is away
_TEXT_LENGTH: Final = 200

_log = logging.getLogger(__name__)
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Trouble:
    """Why a store cannot be used.

    Attributes
    ----------
    reason : str
        What was found, in a few words, without secrets.
    remedy : str
        What to do.
    away : bool
        It does not answer, so it may do so later; otherwise it answers, and refuses.
    """

    reason: str
    remedy: str
    away: bool = True
    silent: bool = False
    """Nothing was heard at all: it may be busy, too."""


class SilenceError(TimeoutError):
    """Nothing was heard in time."""


def why_away(uri: str) -> str | None:
    """Ask a tracking store whether it is there, once and in less than three seconds.

    Parameters
    ----------
    uri : str
        An MLflow tracking URI.

    Returns
    -------
    str or None
        Why it does not answer, in one line without secrets. None: it does, if only to refuse.
    """
    trouble = find_trouble(uri)
    return trouble.reason if trouble and trouble.away else None


def why_artifacts_away(artifact_uri: str, tracking_uri: str) -> str | None:
    """Ask the place where artifacts go whether it is there, once and in less than three seconds.

    Parameters
    ----------
    artifact_uri : str
        Of a run or an experiment.
    tracking_uri : str
        The store it is recorded in: a server that passes artifacts on is found there.

    Returns
    -------
    str or None
        As :func:`why_away`.
    """
    trouble = find_artifact_trouble(artifact_uri, tracking_uri)
    return trouble.reason if trouble and trouble.away else None


def find_trouble(uri: str) -> Trouble | None:
    """Return why a tracking store cannot be used; None where it can, or where nobody can tell."""
    if uri.startswith(("http://", "https://")):
        return _ask(lambda: _server_trouble(uri), _SERVER_REMEDY)
    if uri.startswith("sqlite:///") and uri != "sqlite:///:memory:":
        database = Path(uri.removeprefix("sqlite:///").partition("?")[0])
        return _ask(lambda: _sqlite_trouble(database), _STORE_REMEDY)
    if uri.startswith("postgresql"):
        return _ask(lambda: _postgres_trouble(uri), _POSTGRES_REMEDY)
    if (folder := local_folder(uri)) is not None:
        return _ask(lambda: folder_trouble(folder, _STORE_REMEDY), _STORE_REMEDY)
    return None


def find_artifact_trouble(artifact_uri: str, tracking_uri: str) -> Trouble | None:
    """Return why artifacts cannot be stored; None where they can, or where nobody can tell.

    Nothing is left in the store: a bucket is asked for an upload that is then not made.
    """
    if artifact_uri.startswith("mlflow-artifacts:"):
        return _ask(lambda: _proxy_trouble(artifact_uri, tracking_uri), _PROXY_REMEDY)
    if artifact_uri.startswith("s3://"):
        return _ask(lambda: _s3_trouble(artifact_uri), _S3_REMEDY, s3_client)
    if artifact_uri.startswith("gs://"):
        import google.cloud.storage  # noqa: F401

        return _ask(lambda: _gcs_trouble(artifact_uri), _GCS_REMEDY)
    if (folder := local_folder(artifact_uri)) is not None:
        return folder_trouble(folder)
    return None


def within(seconds: float, ask: Callable[[], Answer]) -> Answer:
    """Return what a call returns, or raise what it raises, unless it takes longer.

    No client's timeouts are enough: each counts for a part, a name's look-up for none of them.

    Raises
    ------
    SilenceError
        After so many seconds. The call goes on by itself, and nobody hears of it any more.
    """
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(ask())
        except BaseException as error:
            errors.append(error)

    known = copy_context()
    thread = threading.Thread(target=known.run, args=(run,), daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise SilenceError(f"no answer within {seconds:g} s")
    return answers[0]


def is_local(uri: str) -> bool:
    """Whether a store is a file or folder."""
    return uri.startswith("sqlite:") or local_folder(uri) is not None


def local_folder(uri: str) -> Path | None:
    """Return the folder that a URI or a path means; None for all that is elsewhere."""
    if uri.startswith("file:"):
        return Path(url2pathname(urlparse(uri).path))
    return None if re.match(r"[\w+.-]+:", uri) else Path(uri)


def _ask(
    question: Callable[[], Trouble | None], remedy: str, prepare: Callable[[], object] | None = None
) -> Trouble | None:
    try:
        if prepare:  # what keeps this machine busy for seconds, if others do so, is no silence
            prepare()
        return within(_patience.get() or PATIENCE, question)
    except Exception as error:  # every client has its own
        return Trouble(_in_few_words(error), remedy, silent=_is_silence(error))


def _is_silence(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
            return True
        error = error.__cause__ or error.__context__
    return False


_patience: ContextVar[float | None] = ContextVar("patience", default=None)


def _timeout() -> int:
    """Return the seconds that a client may take for one part of a question."""
    return max(2, int(_patience.get() or 0))  # libpq takes nothing shorter


def give_a_second_chance(
    find: Callable[[], Trouble | None], artifact_uri: str | None, tracking_uri: str
) -> Trouble | None:
    """Ask; where this machine is busy and nothing was heard, ask once more, with patience.

    Somebody who takes connections and does not answer hangs, or waits for a processor: his own, or
    this one's. Whoever waits is told within the three seconds.

    Parameters
    ----------
    find : callable
        Asks.
    artifact_uri : str or None
        Where artifacts go, if that is what is asked.
    tracking_uri : str
    """
    trouble = find()
    if not (trouble and trouble.silent and _is_busy()):
        return trouble
    if not _takes_connections(artifact_uri, tracking_uri):
        return trouble
    _log.warning(
        "%s is there, but does not answer soon: waiting for %d s at most",
        redact(artifact_uri or tracking_uri),
        _SECOND_PATIENCE,
    )
    token = _patience.set(_SECOND_PATIENCE)
    try:
        return find()
    finally:
        _patience.reset(token)


def _is_busy() -> bool:
    """Whether more processes want to run on this machine than can."""
    try:
        return os.getloadavg()[0] > (os.cpu_count() or 1)
    except OSError:  # nobody counts them
        return False


def _takes_connections(artifact_uri: str | None, tracking_uri: str) -> bool:
    uri = artifact_uri or tracking_uri
    if uri.startswith("mlflow-artifacts:"):
        uri = tracking_uri
    elif uri.startswith("s3://"):
        uri = str(s3_client().meta.endpoint_url)
    elif uri.startswith("gs://"):
        uri = os.environ.get("STORAGE_EMULATOR_HOST") or "https://storage.googleapis.com"
    parsed = urlparse(uri)
    port = parsed.port or {"http": 80, "https": 443}.get(parsed.scheme, 5432)
    try:
        socket.create_connection((parsed.hostname or "", port), timeout=1).close()
    except OSError:
        return False
    return True


def _in_few_words(error: BaseException) -> str:
    """Return what is at the bottom of an error, which clients wrap in several of their own."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    if isinstance(error, OSError) and error.strerror:
        return redact(str(error.strerror)).lower()
    if isinstance(error, TimeoutError) and not isinstance(error, SilenceError):
        return "no answer in time"
    return _short(str(error)) or type(error).__name__


def _short(text: str) -> str:
    """Return the first line of a text, without secrets."""
    lines = [line.strip() for line in redact(text).splitlines() if line.strip()]
    return lines[0][:_TEXT_LENGTH].rstrip(".") if lines else ""


# -- servers -----------------------------------------------------------------------------------

_SERVER_REMEDY: Final = (
    "see that it and its database run (`make server` starts one), or set MLFLOW_TRACKING_URI to "
    "another store"
)
_PROXY_REMEDY: Final = (
    "see that the server runs, and the store it keeps artifacts in (--artifacts-destination)"
)


def call_server(uri: str, endpoint: str, method: str = "GET", **details: Any) -> Any:
    """Send one request to a tracking server, with the credentials MLflow itself would use.

    Parameters
    ----------
    uri, endpoint, method : str
    **details
        As `requests` takes them.

    Returns
    -------
    requests.Response
        Whatever its status is.
    """
    # MLflow's http_request wraps each error in one of its own; what is at its bottom counts.
    return http_request(
        get_default_host_creds(uri.rstrip("/")),
        endpoint,
        method,
        max_retries=0,
        timeout=_timeout(),
        raise_on_status=False,
        **details,
    )


def _server_trouble(uri: str) -> Trouble | None:
    # /health says OK even where the server's database is gone.
    response = call_server(uri, f"{_API}/experiments/search", params={"max_results": 1})
    if response.status_code != 200:
        return refusal(response)
    try:
        known = isinstance(response.json(), dict)
    except ValueError:
        known = False
    if known:
        return None
    return Trouble(
        "what answers is no MLflow server",
        "check the address in MLFLOW_TRACKING_URI, and whether a login page is in the way",
        away=False,
    )


def refusal(response: Any) -> Trouble:
    """Say what a server's answer other than 200 means, and what to do."""
    status = response.status_code
    said = _short(_message(response))
    reason = f"error {status}" + (f": {said}" if said else "")
    if status == 401:
        login = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        if "Authorization" in response.request.headers:
            reason, verb = f"error {status}: it does not accept this user and password", "correct"
        else:
            reason, verb = f"error {status}: it wants to know who asks", "set"
        return Trouble(reason, f"{verb} {login}", away=False)
    if status == 403 and "host" in said.lower():
        return Trouble(reason, "start the server with --allowed-hosts for this address", away=False)
    if status == 403:
        return Trouble(
            reason,
            "ask whoever runs the server for the permission, or set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD to a user who has it",
            away=False,
        )
    if status in _BUSY:
        return Trouble(reason, "wait a minute: it asks for fewer requests")
    if status >= 500:
        return Trouble(
            reason,
            "look into the server's log: it is there, but its database or its artifact store is "
            "not",
        )
    return Trouble(reason, "check the address in MLFLOW_TRACKING_URI", away=False)


def _message(response: Any) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        text = str(response.text)
        return "" if "<" in text else text  # a page for people's eyes


# -- databases ---------------------------------------------------------------------------------

_POSTGRES_REMEDY: Final = (
    "see that it runs, and that host and port in MLFLOW_POSTGRES_URI (or MLFLOW_TRACKING_URI) are "
    "right; a firewall that drops packets looks like this, too"
)
# What PostgreSQL says when it refuses, in words since libpq has no code for it, and the remedy.
_POSTGRES_REFUSALS: Final = (
    (
        r"password authentication failed|no password supplied|role .* does not exist",
        "correct user and password in MLFLOW_POSTGRES_URI (or MLFLOW_TRACKING_URI); characters "
        "such as @ / : need percent-encoding there",
    ),
    (
        r"database .* does not exist",
        "create it (`createdb`), or name another one in MLFLOW_POSTGRES_URI (or "
        "MLFLOW_TRACKING_URI)",
    ),
    (
        r"no pg_hba\.conf entry|permission denied|not permitted|certificate|SSL was required",
        "ask whoever runs the database to let this user and host in (pg_hba.conf, GRANT, sslmode)",
    ),
)


def postgres_connection(uri: str) -> Any:
    """Connect to the database of a ``postgresql://`` URI as SQLAlchemy would, with a short timeout.

    Returns
    -------
    psycopg.Connection
        In autocommit mode.
    """
    import psycopg
    from sqlalchemy import make_url

    url = make_url(uri).set(drivername="postgresql+psycopg")
    arguments, named = url.get_dialect()().create_connect_args(url)
    short = {"connect_timeout": _timeout(), "autocommit": True}
    return psycopg.connect(*arguments, **{**named, **short})


def _postgres_trouble(uri: str) -> Trouble | None:
    import psycopg

    try:
        with postgres_connection(uri) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        return _postgres_refusal(str(error))
    except (psycopg.Error, ValueError, TypeError) as error:  # options that no connection has
        return Trouble(_short(str(error)), "correct MLFLOW_POSTGRES_URI", away=False)
    return None


def _postgres_refusal(told: str) -> Trouble:
    text = " ".join(redact(told).split())
    said = text.rpartition("FATAL: ")[2].rpartition(" failed: ")[2].strip()[:_TEXT_LENGTH]
    for pattern, remedy in _POSTGRES_REFUSALS:
        if re.search(pattern, said):
            return Trouble(said, remedy, away=False)
    said = said.partition(" Is the server running")[0]
    return Trouble(said[:1].lower() + said[1:], _POSTGRES_REMEDY, silent="timeout" in said)


def _sqlite_trouble(database: Path) -> Trouble | None:
    if database.is_dir():
        return Trouble(f"{database} is a folder", _STORE_REMEDY, away=False)
    if not database.exists():
        return folder_trouble(database.parent, _STORE_REMEDY)
    address = f"{database.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, timeout=0, uri=True)) as reader:
        try:
            reader.execute("PRAGMA schema_version")
        except sqlite3.DatabaseError as error:
            if "locked" in str(error):  # somebody is at work in it
                return None
            return Trouble(str(error), _STORE_REMEDY, away=False)
    for place in (database, database.parent):  # SQLite writes a journal beside the file
        if not os.access(place, os.W_OK):
            return Trouble(f"{place} may not be written", _STORE_REMEDY)
    return None


# -- folders -----------------------------------------------------------------------------------

_STORE_REMEDY: Final = (
    "check that it is what it should be and that you may write to it, or set MLFLOW_TRACKING_URI "
    "to another one"
)
_FOLDER_REMEDY: Final = "make it a folder that you may write to, or record in another experiment"


def folder_trouble(folder: Path, remedy: str = _FOLDER_REMEDY) -> Trouble | None:
    """Look at a folder, or at the nearest one above, in which it would be made."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return Trouble(f"{place} is no folder", remedy, away=False)
    if not os.access(place, os.W_OK | os.X_OK):
        return Trouble(f"{place} may not be written", remedy)
    return None


# -- artifact stores ---------------------------------------------------------------------------

_S3_REMEDY: Final = (
    "check MLFLOW_S3_ENDPOINT_URL (or AWS_ENDPOINT_URL), the network, and that the store runs"
)
_S3_REFUSALS: Final = {
    "NoSuchBucket": "create the bucket, or name another one in MLFLOW_S3_BUCKET",
    "InvalidAccessKeyId": "correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "SignatureDoesNotMatch": "correct AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "get new keys: AWS_SESSION_TOKEN has expired",
    "RequestTimeTooSkewed": "set this machine's clock",
    "AccessDenied": "give these keys the right to read and write the bucket, or use other keys",
}
_GCS_REMEDY: Final = (
    "check the network and GOOGLE_APPLICATION_CREDENTIALS (or STORAGE_EMULATOR_HOST)"
)


def bucket_and_prefix(uri: str) -> tuple[str, str]:
    """Split ``s3://bucket/some/folder``."""
    parsed = urlparse(uri)
    return parsed.netloc, parsed.path.strip("/")


def probe_name(prefix: str) -> str:
    """Return a name below a prefix that nothing else has."""
    return f"{prefix}/candlewick-probe-{uuid.uuid4().hex}".lstrip("/")


def s3_client() -> Any:
    """Return a client of the S3 that MLflow would use, without its patience."""
    decided = ("AWS_", "MLFLOW_S3_", "MLFLOW_BOTO_")
    settings = {name: value for name, value in os.environ.items() if name.startswith(decided)}
    return _s3_client(tuple(sorted(settings.items())))


@lru_cache(maxsize=1)  # a session takes a quarter of a second to make
def _s3_client(environment: tuple[tuple[str, str], ...]) -> Any:
    import boto3
    import boto3.s3.transfer
    from botocore.config import Config

    settings = dict(environment)

    # A session of its own: boto3's common one would keep the first keys it ever read.
    return boto3.Session().client(
        "s3",
        endpoint_url=settings.get("MLFLOW_S3_ENDPOINT_URL") or None,
        verify=settings.get("MLFLOW_S3_IGNORE_TLS", "").lower() not in ("true", "1"),
        config=Config(
            connect_timeout=_timeout(),
            read_timeout=_timeout(),
            retries={"total_max_attempts": 1},
            s3={"addressing_style": settings.get("MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE", "auto")},
        ),
    )


def _s3_trouble(uri: str) -> Trouble | None:
    from botocore.exceptions import ClientError, NoCredentialsError

    bucket, prefix = bucket_and_prefix(uri)
    name = probe_name(prefix)
    client = s3_client()
    try:
        # Reading and writing are separate rights; an upload that is only begun leaves nothing.
        client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
        extra = json.loads(os.environ.get("MLFLOW_S3_UPLOAD_EXTRA_ARGS", "{}"))  # encryption, say
        upload = client.create_multipart_upload(Bucket=bucket, Key=name, **extra)
    except ClientError as error:
        return s3_refusal(error)
    except NoCredentialsError:
        return Trouble(
            "no keys", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or a profile)", away=False
        )
    with suppress(ClientError):  # whoever may begin an upload may write, which is what was asked
        client.abort_multipart_upload(Bucket=bucket, Key=name, UploadId=upload["UploadId"])
    return None


def s3_refusal(error: Any) -> Trouble:
    """Say what an error that an S3 answered with means, and what to do."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    said = _short(str(error.response.get("Error", {}).get("Message", "")))
    reason = f"{code}: {said}" if said else code
    if status >= 500 or status in _BUSY:
        return Trouble(reason, _S3_REMEDY)
    remedy = _S3_REFUSALS.get(code, "check MLFLOW_S3_ENDPOINT_URL, the bucket's name and the keys")
    return Trouble(reason, remedy, away=False)


def _gcs_trouble(uri: str) -> Trouble | None:
    from google.api_core.exceptions import GoogleAPICallError, NotFound

    bucket, prefix = bucket_and_prefix(uri)
    short: dict[str, Any] = {"timeout": _timeout(), "retry": None}
    client = gcs_client()
    try:
        # Reading and writing are separate rights; an upload that is only begun leaves nothing.
        list(client.list_blobs(bucket, prefix=prefix, max_results=1, **short))
        client.bucket(bucket).blob(probe_name(prefix)).create_resumable_upload_session(**short)
    except NotFound:
        return Trouble(
            f"there is no bucket {bucket}",
            "create the bucket, or name another one in MLFLOW_GCS_BUCKET",
            away=False,
        )
    except GoogleAPICallError as error:
        return gcs_refusal(error)
    return None


def gcs_client() -> Any:
    """Return a client of the Google Cloud Storage that MLflow would use."""
    from google.auth.exceptions import DefaultCredentialsError
    from google.cloud import storage

    try:
        return storage.Client()
    except DefaultCredentialsError:
        return storage.Client.create_anonymous_client()


def gcs_refusal(error: Any) -> Trouble:
    """Say what an error that Google Cloud Storage answered with means, and what to do."""
    reason = f"error {error.code}: {_short(error.message)}"
    if error.code in (401, 403):
        return Trouble(
            reason,
            "set GOOGLE_APPLICATION_CREDENTIALS to the key file of an account that may read and "
            "write the bucket",
            away=False,
        )
    return Trouble(reason, _GCS_REMEDY, away=error.code >= 500 or error.code in _BUSY)


def artifact_endpoint(artifact_uri: str, tracking_uri: str) -> tuple[str, str, str]:
    """Return the server of ``mlflow-artifacts:``, its API for artifacts, and the path there."""
    from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

    address = MlflowArtifactsRepository.resolve_uri(artifact_uri, tracking_uri)
    root, api, path = address.partition(f"{_API}-artifacts/artifacts")
    return root, api, path.strip("/")


def _proxy_trouble(artifact_uri: str, tracking_uri: str) -> Trouble | None:
    try:
        root, api, path = artifact_endpoint(artifact_uri, tracking_uri)
    except MlflowException:
        return Trouble(
            f"a server keeps these artifacts, and {redact(tracking_uri)} is none",
            "set MLFLOW_TRACKING_URI to the server that keeps these artifacts",
            away=False,
        )
    response = call_server(root, api, params={"path": path})
    if response.status_code == 200:
        return None
    if response.status_code == 503:
        said = _short(_message(response))
        if "disabled" in said:
            return Trouble(said, "start the server with --serve-artifacts", away=False)
    return refusal(response)


def read_json(response: Any) -> dict[str, Any]:
    """Return what a server answered as a mapping, which is empty where it is none."""
    try:
        found = json.loads(response.text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
