"""Prices to features, labels and snapshots: pure, no MLflow, no clock."""
