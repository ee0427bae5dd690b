"""Writes RELIABILITY.md from the counts of the campaigns of tests/faults: `python -m benchmarks.reliability`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

RESULTS = Path(__file__).parent / "results" / "faults"
PAGE = Path(__file__).parent / "RELIABILITY.md"
HEAD = """# Fault injection: campaigns and results

Written by `make faults` from `results/faults/*.json`, which the tests in `tests/faults` leave; do not edit. A test that
fails leaves no result: each row below is a campaign that passed in full, with its counts. Settings are small (tiles
of 128 px, networks of 2 and 4 filters, the built-in photographs); the commands are those of a user, in processes of
their own.

"""
SECTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {  # heading → description, prefixes of campaign names
    "Kills": (
        "SIGKILL to the process group at a random moment, then the same command, until the store is made: its "
        "digest (of a model: of the weights) is that of an undisturbed run, `verify` passes, no temporary file stays, "
        "and no record or ledger line that was there when a command started was written again.",
        ("kills-",),
    ),
    "Ctrl-C": (
        "SIGINT to the process group in the middle of the work, once or twice. Once: what is in flight is finished. "
        "Twice: it ends at once. Exit code 130 and a word on how to go on; the same command gives the same digest.",
        ("interrupts-",),
    ),
    "Workers and schedulers": (
        "`dask scheduler` and `dask worker` processes started by hand on loopback, killed while `generate` depends on "
        "them; a worker of a local cluster killed; and the same stores by 0, 1, 2 and 4 workers.",
        ("workers-",),
    ),
    "Disks": (
        "A small disk in memory that fills up during the run (64 KiB are left): it stops with a message, and goes on "
        "after room is made.",
        ("disk-",),
    ),
    "Places": (
        "`--out` of pairs, train, evaluate, generate and export at a link to an empty folder of another disk, at a "
        "link to a missing folder, at a mount point below a read-only folder: the store stands there, and `verify` "
        "passes. On a read-only disk: refused at once. `verify --repair` of a pair store, a corpus with labels and an "
        "export through a link and on a mount point: mended in place, every other file as before; of these, a model "
        "and an evaluation on a read-only disk, in a read-only folder, or without manifest, images, models or corpus: "
        "refused, and every byte is as it was. All in one process, except in the folder.",
        ("places-",),
    ),
    "Bit rot and repair": (
        "One random flipped bit, truncation or deletion at a time, in a pair store, a corpus, a model, an export, and "
        "a manifest with its images: `verify` has to name the file. Repair: one to four at a time, then "
        "`verify --repair`; made again may be only what was damaged.",
        ("bit-rot", "repair"),
    ),
    "Hostile and broken input": (
        "Mutated images of every format, bombs and archives through `ingest`; documents of any content through their "
        "readers; names and secrets through the complete pipeline.",
        ("hostile-", "fuzzed-", "outputs"),
    ),
    "Object stores": (
        "Pair stores and corpora at s3://, on moto's server on loopback, behind a proxy that answers some requests "
        "with 500, some late, and cuts some answers in the middle (`faulty`), or fails for a while (`down`).",
        ("objects-",),
    ),
}


def main() -> None:
    """Write the page."""
    campaigns = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}
    PAGE.write_text(render(campaigns), encoding="utf-8")
    print(f"{PAGE}: {len(campaigns)} campaigns")


def render(campaigns: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page for the counts of each of the `campaigns`, by name."""
    parts = [HEAD]
    for heading, (description, names) in SECTIONS.items():
        section = {name: counts for name, counts in campaigns.items() if name.startswith(names)}
        parts.append(f"## {heading}\n\n{fill(description, 120)}\n\n{_table(section) if section else 'Not run.'}\n\n")
    return "".join(parts).rstrip("\n") + "\n"


def _table(campaigns: Mapping[str, Mapping[str, Any]]) -> str:
    rows = ["| campaign | counted | day | load |", "|---|---|---|---|"]
    for name, counts in campaigns.items():
        texts = [
            f"{key.replace('_', ' ')} {_value(value)}" for key, value in counts.items() if key not in ("date", "load")
        ]
        rows.append(f"| {name} | {'; '.join(texts)} | {counts['date']} | {counts['load']} |")
    return "\n".join(rows)


def _value(value: object) -> str:
    """Return a count as text.

    >>> _value({"bit": 70, "deletion": 65}), _value([0, 2])
    ('(bit 70, deletion 65)', '0, 2')
    """
    if isinstance(value, Mapping):
        return f"({', '.join(f'{name} {count}' for name, count in value.items())})"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()
