"""featurize, from prices in Parquet to a snapshot stored and hashed: seconds of CPU as JSON.

Imports and the opening of the run are left out, as in the peers. And how long it takes to find that
snapshot again, when nothing has changed.
"""

import json
import sys
import time

from steps.entry_point import open_step
from steps.featurize import FeaturizeParams, featurize, find_reusable

params = FeaturizeParams(prices=sys.argv[1])
with open_step("featurize", params) as logger:
    started, cpu_before = time.perf_counter(), time.process_time()
    made = featurize(params, logger)
    cpu, making = time.process_time() - cpu_before, time.perf_counter() - started
with open_step("featurize", params) as logger:
    started = time.perf_counter()
    found = find_reusable(params, logger)
    finding = time.perf_counter() - started
if found is None or found.snapshot_id != made.snapshot_id:
    raise SystemExit("the snapshot was not found again")
print(json.dumps({"cpu": cpu, "making": making, "finding": finding}))
