"""A multi-step project as MLflow's examples build them: each step an `mlflow run` of its own."""

import sys

import mlflow


def launch(entry_point: str, **parameters: str) -> mlflow.entities.Run:
    """Run an entry point below the active run, wait for it, and return its run."""
    submitted = mlflow.projects.run(".", entry_point, parameters=parameters, env_manager="local")
    return mlflow.get_run(submitted.run_id)


with mlflow.start_run():
    features = f"{launch('featurize', prices=sys.argv[1]).info.artifact_uri}/features.parquet"
    trained = launch("train", features=features)
    launch("evaluate", features=features, model=trained.data.tags["model_uri"])
