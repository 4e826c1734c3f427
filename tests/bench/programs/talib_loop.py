"""Features by TA-Lib in a bare loop, then Parquet: the seconds of CPU that takes, as JSON."""

import json
import sys
import time
from pathlib import Path

import pandas as pd
from plain_features import features_of_all

started = time.process_time()
table = features_of_all(pd.read_parquet(sys.argv[1]))
table.to_parquet(Path(sys.argv[2], "talib.parquet"))
print(json.dumps({"cpu": time.process_time() - started, "rows": len(table)}))
