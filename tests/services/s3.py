"""An S3 server on loopback, with two pairs of keys: one for everything, one for reading."""

import json
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from services.server import Server, free_port, running

REGION = "us-east-1"


class S3(Server):
    """SeaweedFS: all its parts in one process, none but the S3 door for us."""

    def __init__(self, folder: Path, home: Path) -> None:
        super().__init__(folder)
        self._home = home
        self._parts = {
            f"{part}.port{kind}": free_port()
            for part in ("admin", "master", "volume", "filer")
            for kind in ("", ".grpc")
        } | {"s3.port": self.port, "s3.port.grpc": free_port()}
        self.access_key, self.secret_key = "candlewick", secrets.token_urlsafe(24)
        self._reader = ("reader", secrets.token_urlsafe(24))
        everything = ["Admin", "Read", "Write", "List", "Tagging"]
        identities = [
            _identity(self.access_key, self.secret_key, everything),
            _identity(*self._reader, ["Read", "List"]),
        ]
        (home / "s3.json").write_text(json.dumps({"identities": identities}))
        (home / "data").mkdir()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """Return what a process needs in its environment to write here."""
        return self._client_environment(self.access_key, self.secret_key)

    def read_only_environment(self) -> dict[str, str]:
        """Return what a process needs in its environment to read here, and no more."""
        return self._client_environment(*self._reader)

    def _client_environment(self, access_key: str, secret_key: str) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": self.endpoint,
            "MLFLOW_S3_ENDPOINT_URL": self.endpoint,
        }

    def client(self, access_key: str | None = None, secret_key: str | None = None) -> Any:
        """Return a boto3 client, by default one that may do everything."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=access_key or self.access_key,
            aws_secret_access_key=secret_key or self.secret_key,
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20),
        )

    def create_bucket(self, name: str | None = None) -> str:
        """Make a bucket; without a name, one that nobody else uses."""
        name = name or f"bucket-{secrets.token_hex(6)}"
        self.client().create_bucket(Bucket=name)
        return name

    def names(self, bucket: str) -> list[str]:
        """Return the names of all objects in a bucket."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [each["Key"] for page in pages for each in page.get("Contents", [])]

    def read(self, bucket: str, name: str) -> bytes:
        """Return the content of an object."""
        return bytes(self.client().get_object(Bucket=bucket, Key=name)["Body"].read())

    def write(self, bucket: str, name: str, content: bytes) -> None:
        """Write an object, over the former one."""
        self.client().put_object(Bucket=bucket, Key=name, Body=content)

    def remove_sockets(self) -> None:
        """Remove what it leaves in /tmp, whatever it is told about folders."""
        for option, port in self._parts.items():
            part, _, kind = option.partition(".port")
            if kind == ".grpc":
                Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock").unlink(missing_ok=True)

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), "HOME": str(self._home)}

    def _command(self) -> list[str]:
        options = {
            **self._parts,
            "dir": self._home / "data",
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "admin.ui": "false",
            "filer.localSocket": self._home / "filer.sock",
            "master.telemetry": "false",
            "s3.autoCreateBucket": "false",
            "s3.config": self._home / "s3.json",
            "s3.localSocket": self._home / "s3.sock",
            "s3.port.iceberg": "0",
            "s3.port.lance": "0",
            "volume.preStopSeconds": "0",
            "webdav": "false",
        }
        weed = str(Path(sys.executable).with_name("weed"))
        return [weed, "mini", *(f"-{name}={value}" for name, value in options.items())]

    def _ask(self) -> None:
        """Write, for volumes come up after the door that leads to them."""
        client = self.client()
        with suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket="ready")
        client.put_object(Bucket="ready", Key="ready", Body=b"ready")


def _identity(access_key: str, secret_key: str, actions: list[str]) -> dict[str, object]:
    keys = [{"accessKey": access_key, "secretKey": secret_key}]
    return {"name": access_key, "credentials": keys, "actions": actions}


@contextmanager
def s3(folder: Path) -> Iterator[S3]:
    """Run an S3 server; its log goes to a folder, its data to a short path (it makes sockets)."""
    home = Path(tempfile.mkdtemp(prefix="s3-"))
    try:
        server = S3(folder, home)
        with running(server):
            yield server
        server.remove_sockets()
    finally:
        shutil.rmtree(home, ignore_errors=True)
