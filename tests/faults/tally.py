"""Results of the fault campaigns, for benchmarks/RELIABILITY.md.

`make faults` sets the folder $FAULTS_TALLY; without a folder nothing is written.
"""

import json
import os
import time
from pathlib import Path


def tally(name, **counts):
    """Write the `counts` of the campaign `name`: numbers and lists of names."""
    if folder := os.environ.get("FAULTS_TALLY"):
        path = Path(folder) / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {"date": time.strftime("%Y-%m-%d"), "load": round(os.getloadavg()[0], 1), **counts}
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
