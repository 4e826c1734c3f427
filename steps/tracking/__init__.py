"""Everything that knows MLflow, and nothing else."""

import os

# MLflow reads this when it is imported, so it must be decided before: a recipe sends nothing to
# anybody unasked. `MLFLOW_DISABLE_TELEMETRY=false` in the environment asks.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

# MLflow's HTTP client would try for four minutes to reach a server that is gone, and whoever waits
# for it with a run of hours would not even be told. Two retries (after 2 and 4 seconds, or when the
# server says in Retry-After) carry it over a hiccup; what is longer is an outage, or a server that
# asks for fewer requests (429), and then what a run logs is kept and delivered later. MLflow reads
# both at each request, so the environment can still decide otherwise.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
