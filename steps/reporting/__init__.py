"""Figures: pure, returned and not shown."""
