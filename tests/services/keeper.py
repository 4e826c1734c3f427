"""Ends the servers of a test process that was killed or has crashed, and cannot do it itself.

It hears of servers on standard input, ``+PID SIGNAL`` and later ``-PID SIGNAL``. That pipe closes
when the process with its other end is gone, however it went.
"""

import os
import signal
import sys
from contextlib import suppress


def main() -> None:
    running: set[tuple[int, int]] = set()
    for line in sys.stdin:
        group, how = map(int, line[1:].split())
        (running.add if line[0] == "+" else running.discard)((group, how))
    for group, how in running:
        with suppress(ProcessLookupError):
            os.killpg(group, how)
            os.killpg(group, signal.SIGCONT)  # it may be paused


if __name__ == "__main__":
    main()
