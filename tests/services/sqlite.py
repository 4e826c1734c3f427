"""Databases in files, ready to be used: MLflow's own migrations take seconds."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path


def place_database(migrated: Path, folder: Path, *, artifacts: str | None = None) -> Path:
    """Put an empty database into a folder, as if it had been made there.

    Parameters
    ----------
    migrated : Path
        The one to copy.
    folder : Path
        Where ``mlflow.db`` goes.
    artifacts : str, optional
        Where the experiment that every database has keeps its artifacts; default: beside it.

    Returns
    -------
    Path
        The folder.
    """
    shutil.copy(migrated, folder / "mlflow.db")
    place = (artifacts or str(folder / "mlruns" / "0"),)
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE experiments SET artifact_location = ?", place)
    return folder
