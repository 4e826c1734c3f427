"""Everything that knows MLflow, and nothing else."""
