"""Write a small file where artifacts go, read it, and delete it again."""

from __future__ import annotations

import os
import re
import socket
import uuid
from pathlib import Path
from typing import Final

from steps.tracking.reachable import (
    Trouble,
    artifact_endpoint,
    bucket_and_prefix,
    call_server,
    gcs_client,
    gcs_refusal,
    local_folder,
    probe_name,
    refusal,
    s3_client,
    s3_refusal,
)

_CONTENT: Final = b"candlewick looked whether files can be stored here\n"
_ALL_WELL: Final = "a file was written, read and deleted"
_STAYS: Final = "a file was written and read; it stays, since whoever may write may not delete"


class ProbeError(RuntimeError):
    """A file could not be written, or came back as another."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.reason)
        self.trouble = trouble


def probe_artifacts(artifact_uri: str, tracking_uri: str) -> str:
    """Write, read and delete a file.

    Parameters
    ----------
    artifact_uri : str
        Of an experiment.
    tracking_uri : str
        The store it is recorded in.

    Returns
    -------
    str
        What was done.

    Raises
    ------
    ProbeError
        If that fails; its `trouble` says what to do.
    """
    if artifact_uri.startswith("mlflow-artifacts:"):
        return _probe_server(artifact_uri, tracking_uri)
    if artifact_uri.startswith("s3://"):
        return _probe_s3(artifact_uri)
    if artifact_uri.startswith("gs://"):
        return _probe_gcs(artifact_uri)
    if (folder := local_folder(artifact_uri)) is not None:
        return _probe_folder(folder)
    return "not tried: Candlewick does not know this kind of store"


def _compare(content: bytes) -> None:
    if content != _CONTENT:
        raise ProbeError(
            Trouble("a file came back as another", "look for what changes files on their way")
        )


def _probe_folder(folder: Path) -> str:
    place = folder
    while not place.exists():  # it will be made by the first run
        place = place.parent
    probe = place / f".candlewick-probe-{uuid.uuid4().hex}"
    try:
        with probe.open("xb") as file:
            file.write(_CONTENT)
            file.flush()
            os.fsync(file.fileno())  # a disk that is full may say so only now
        _compare(probe.read_bytes())
    except OSError as error:
        reason = f"{place}: {error.strerror or error}".lower()
        raise ProbeError(Trouble(reason, "make room there, and see that you may write")) from error
    finally:
        probe.unlink(missing_ok=True)
    return _ALL_WELL


def _probe_s3(uri: str) -> str:
    from botocore.exceptions import ClientError

    bucket, prefix = bucket_and_prefix(uri)
    client, name = s3_client(), probe_name(prefix)
    try:
        client.put_object(Bucket=bucket, Key=name, Body=_CONTENT)
        _compare(client.get_object(Bucket=bucket, Key=name)["Body"].read())
    except ClientError as error:
        raise ProbeError(s3_refusal(error)) from error
    try:
        client.delete_object(Bucket=bucket, Key=name)
    except ClientError:
        return _STAYS
    return _ALL_WELL


def _probe_gcs(uri: str) -> str:
    from google.api_core.exceptions import GoogleAPICallError

    bucket, prefix = bucket_and_prefix(uri)
    blob = gcs_client().bucket(bucket).blob(probe_name(prefix))
    try:
        blob.upload_from_string(_CONTENT, retry=None)
        _compare(blob.download_as_bytes(retry=None))
    except GoogleAPICallError as error:
        raise ProbeError(gcs_refusal(error)) from error
    try:
        blob.delete(retry=None)
    except GoogleAPICallError:
        return _STAYS
    return _ALL_WELL


def _probe_server(artifact_uri: str, tracking_uri: str) -> str:
    root, api, path = artifact_endpoint(artifact_uri, tracking_uri)
    # Deleting takes a right that few users have: what stays is one file of each machine.
    machine = re.sub(r"\W", "-", socket.gethostname())
    address = f"{api}/{path}/candlewick-probe-{machine}".replace("//", "/")
    answer = call_server(root, address, "PUT", data=_CONTENT)
    if answer.status_code == 200:
        answer = call_server(root, address)
    if answer.status_code != 200:
        raise ProbeError(refusal(answer))
    _compare(answer.content)
    deleted = call_server(root, address, "DELETE")
    return _ALL_WELL if deleted.status_code == 200 else _STAYS
