"""Make what the tracking server of compose.yaml needs and does not make: a database, a bucket.

Both may be there already. It reads the server's own environment.
"""

from __future__ import annotations

import configparser
import os
from contextlib import suppress
from urllib.parse import urlsplit

import boto3
import psycopg
from psycopg import sql


def create_users_database(neighbour: str, users: str) -> None:
    """Create the database in which MLflow keeps users, on the server of another database.

    Parameters
    ----------
    neighbour, users : str
        Addresses of the database that is there, and of the one that must be.
    """
    name = urlsplit(users).path.strip("/")
    statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    with (
        suppress(psycopg.errors.DuplicateDatabase),
        psycopg.connect(neighbour, autocommit=True) as connection,
    ):
        connection.execute(statement)


def create_bucket(destination: str) -> None:
    """Create the bucket of an ``s3://`` address, and try it out.

    The first write is the slow one, since the store makes room: nobody's run is to wait for that.
    """
    s3 = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    bucket = urlsplit(destination).netloc
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="prepared", Body=b"")
    s3.delete_object(Bucket=bucket, Key="prepared")


if __name__ == "__main__":
    auth = configparser.ConfigParser()
    with open(os.environ["MLFLOW_AUTH_CONFIG_PATH"]) as file:  # noqa: PTH123
        auth.read_file(file)
    create_users_database(os.environ["MLFLOW_BACKEND_STORE_URI"], auth["mlflow"]["database_uri"])
    create_bucket(os.environ["MLFLOW_ARTIFACTS_DESTINATION"])
