"""What a campaign of faults did, in numbers, for benchmarks/RELIABILITY.md.

`make faults` names a folder in $FAULTS_TALLY; without it nothing is kept.
"""

import json
import os
import time
from pathlib import Path


def tally(name, **counts):
    """Keep the `counts` of the campaign `name`: numbers, and the words that they are to be read with."""
    if folder := os.environ.get("FAULTS_TALLY"):
        path = Path(folder) / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = {"date": time.strftime("%Y-%m-%d"), "load": round(os.getloadavg()[0], 1), **counts}
        path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
