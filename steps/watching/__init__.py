"""A model in use: what came after it, held against what it learned from."""
