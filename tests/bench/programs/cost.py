"""Runs a command from a small process, and says as JSON what it took.

A process counts as its own the memory that the one which started it held at that moment.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

started = time.perf_counter()
process = subprocess.Popen(sys.argv[2:])
_, status, used = os.wait4(process.pid, 0)
wall = time.perf_counter() - started
cost = {
    "wall": wall,
    "cpu": used.ru_utime + used.ru_stime,
    "peak": used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10),
}
Path(sys.argv[1]).write_text(json.dumps(cost))
sys.exit(os.waitstatus_to_exitcode(status))
