"""Candlewick's steps: one script per entry point, and the rooms they are built from."""
