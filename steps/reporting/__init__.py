"""Figures, and the report that shows them: pure, returned and not shown."""
