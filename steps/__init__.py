"""Candlewick's steps: one script per entry point, and the rooms they are built from."""

import gc
import signal
import sys

if sys.argv[:1] == ["-m"]:  # as Python has it until it has found the module of `python -m steps.…`
    # A step imports much, and keeps it: to go through it again and again in search of garbage took
    # a sixth of the time of a whole run on the sample.
    gc.set_threshold(100_000)
    # Ctrl-C while it imports ends it without a traceback; then the command itself answers.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
