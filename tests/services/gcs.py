"""A Google Cloud Storage emulator on loopback. It asks for no credentials, and takes none."""

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from services.server import Server, running

PROJECT = "candlewick"


class Gcs(Server):
    """Buckets in a folder, behind Google's JSON API."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """Return what a process needs in its environment to read and write here."""
        return {
            "STORAGE_EMULATOR_HOST": self.endpoint,
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "NO_GCE_CHECK": "true",  # else Google's library looks for its metadata server
        }

    def client(self) -> storage.Client:
        """Return a client for looking and for meddling."""
        return storage.Client(
            PROJECT, AnonymousCredentials(), client_options={"api_endpoint": self.endpoint}
        )

    def create_bucket(self) -> str:
        """Make a bucket that nobody else uses."""
        name = f"bucket-{secrets.token_hex(6)}"
        self.client().create_bucket(name)
        return name

    def names(self, bucket: str) -> list[str]:
        """Return the names of all objects in a bucket."""
        return [blob.name for blob in self.client().list_blobs(bucket)]

    def read(self, bucket: str, name: str) -> bytes:
        """Return the content of an object."""
        return bytes(self.client().bucket(bucket).blob(name).download_as_bytes())

    def write(self, bucket: str, name: str, content: bytes) -> None:
        """Write an object, over the former one."""
        self.client().bucket(bucket).blob(name).upload_from_string(content)

    def _command(self) -> list[str]:
        folder = str(self.folder / "buckets")
        return [
            *(sys.executable, "-m", "gcp_storage_emulator", "--data-dir", folder, "start"),
            *("--host", "127.0.0.1", "--port", str(self.port), "--quiet"),
        ]


@contextmanager
def gcs(folder: Path) -> Iterator[Gcs]:
    """Run a GCS server on a folder."""
    with running(Gcs(folder)) as server:
        yield server
