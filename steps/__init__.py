"""Candlewick's steps: one script per entry point, and the rooms they are built from."""

import gc
import sys

if sys.argv[:1] == ["-m"]:  # as Python has it until it has found the module of `python -m steps.…`
    # A step imports much, and keeps it: to go through it again and again in search of garbage took
    # a sixth of the time of a whole run on the sample.
    gc.set_threshold(100_000)
