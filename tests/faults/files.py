"""The files of a run or a model as they lie in the store, behind MLflow's back."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from services.tracking_server import TrackingServer

from faults.place import Place


@dataclass(frozen=True)
class StoredFile:
    """A file in a folder, or an object in a bucket."""

    name: str
    read: Callable[[], bytes]
    write: Callable[[bytes], object]


def stored_files(place: Place, uri: str) -> list[StoredFile]:
    """Return what is stored at an artifact URI and below it.

    Parameters
    ----------
    place : Place
    uri : str
        Of a run's artifacts or a model's, or of a part of them.
    """
    _, _, path = uri.partition(":")
    bucket, server = place.backend.artifacts, place.backend.server
    if bucket is None:
        folder = Path(path.removeprefix("//") if path else uri)
        if isinstance(server, TrackingServer):
            folder = Path(server.artifacts_destination) / path.strip("/")
        return [
            StoredFile(each.relative_to(folder).as_posix(), each.read_bytes, each.write_bytes)
            for each in sorted(folder.rglob("*"))
            if each.is_file()
        ]
    # Of `s3://bucket/some/where`, or of `mlflow-artifacts:/some/where`.
    prefix = path.removeprefix(f"//{bucket.name}").strip("/") + "/"
    return [
        StoredFile(
            name.removeprefix(prefix),
            lambda name=name: bucket.read(name),  # type: ignore[misc]
            lambda content, name=name: bucket.write(name, content),  # type: ignore[misc]
        )
        for name in sorted(bucket.names())
        if name.startswith(prefix)
    ]
