"""featurize, from prices in Parquet to a snapshot stored and hashed: seconds of CPU as JSON.

Imports and the opening of the run are left out, as in the peers. And how long all of it takes as a
step of `main`, a run of its own, and how long it takes `main` to find that snapshot again.
"""

import json
import sys
import time

from steps.entry_point import open_step
from steps.featurize import FeaturizeParams, featurize, find_reusable

params = FeaturizeParams(prices=sys.argv[1])
with open_step("main", params) as main:
    started = time.perf_counter()
    with open_step("featurize", params) as logger:
        cpu_before = time.process_time()
        made = featurize(params, logger)
        cpu = time.process_time() - cpu_before
    making = time.perf_counter() - started
    started = time.perf_counter()
    found = find_reusable(params, main)
    finding = time.perf_counter() - started
if found is None or found.snapshot_id != made.snapshot_id:
    raise SystemExit("the snapshot was not found again")
print(json.dumps({"cpu": cpu, "making": making, "finding": finding}))
