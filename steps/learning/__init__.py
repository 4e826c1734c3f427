"""Snapshots to models and scores: pure."""
