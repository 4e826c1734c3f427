"""move: take a store, with everything in it, to another database and another place for artifacts.

The new ones are those of the settings: their addresses hold passwords, which arguments would show
to everybody on this machine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from pydantic import Field

from steps.command import command, progress, say
from steps.entry_point import ParameterError, StepParams, parse_params
from steps.tracking.moving import Move, check_is_database, move_store
from steps.tracking.moving_plan import Destination
from steps.tracking.reachable import local_folder
from steps.tracking.schema import sqlite_file
from steps.tracking.settings import Settings, SettingsError, load_settings, redact
from steps.tracking.stores import TrackingError, absolute_uri

AUTO: Final = "auto"
NONE: Final = "none"


class MoveParams(StepParams):
    """Move a store to the one that the settings name."""

    source: str = Field(
        "sqlite:///mlflow.db", description="what to move: sqlite:///mlflow.db or file:./mlruns"
    )
    source_artifacts: str = Field(
        NONE,
        description="where a server keeps the artifacts of the old store, if it went through one",
    )
    artifacts: str = Field(
        AUTO,
        description="where artifacts go: s3://…, gs://…, a folder; auto: the bucket of the "
        "settings, or mlruns beside a SQLite database",
    )
    artifact_uri: str = Field(
        AUTO,
        description="what the new database calls that place: mlflow-artifacts:/ if clients get at "
        "it through a server; auto: the same",
    )
    allow_running: bool = Field(
        default=False, description="take runs as they are that have not ended"
    )


def move(params: MoveParams, tell: Callable[[str], None] = say) -> None:
    """Move everything, with progress on the terminal."""
    settings = load_settings()
    target = absolute_uri(settings.tracking_uri)
    check_is_database(target)
    files = _files(params.artifacts, target, settings)
    name = files if params.artifact_uri == AUTO else params.artifact_uri
    moving = Move(
        source=params.source,
        target=target,
        destination=Destination(files, name),
        source_artifacts=None if params.source_artifacts == NONE else params.source_artifacts,
        by_name=params.artifact_uri != AUTO,
        allow_running=params.allow_running,
    )
    tell(f"moving {redact(params.source)} to {redact(target)}, artifacts to {files}")
    move_store(moving, tell, progress)
    tell(f"done: nothing was written to {redact(params.source)}, and nothing needs it any more")


def _files(artifacts: str, target: str, settings: Settings) -> str:
    if artifacts == AUTO:
        if settings.artifact_root:
            return settings.artifact_root
        if not target.startswith("sqlite:///"):
            raise ParameterError(
                "artifacts=auto: nothing says where they go; name a place, as in "
                "--artifacts=s3://bucket, or set MLFLOW_BACKEND=remote and MLFLOW_S3_BUCKET or "
                "MLFLOW_GCS_BUCKET"
            )
        artifacts = str(sqlite_file(target).parent / "mlruns")
    folder = local_folder(artifacts)
    return artifacts.rstrip("/") if folder is None else str(folder.absolute())


def main() -> None:
    """Be the command."""
    known = (ParameterError, SettingsError, TrackingError, OSError)
    with command("move", *known, when_stopped="; repeat it to go on"):
        move(parse_params(MoveParams, sys.argv[1:]))


if __name__ == "__main__":
    main()
