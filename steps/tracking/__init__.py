"""Everything that knows MLflow, and nothing else."""

import os

# MLflow reads this when it is imported, so it must be decided before: a recipe sends nothing to
# anybody unasked. `MLFLOW_DISABLE_TELEMETRY=false` in the environment asks.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
