"""The recipe as a user runs it: `mlflow run`, whole processes, real servers."""
