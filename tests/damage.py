"""Ways to damage a store, and to ask what `verify` makes of it."""

import json

from distort_pipeline.commands.verify import verify


def flip(path, place, bit=0):
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def change_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def problems(path, **options):
    return "\n".join(verify(path, **options).problems)


def only_problem(path, **options):
    found = verify(path, **options).problems
    assert len(found) == 1, found
    return found[0]
