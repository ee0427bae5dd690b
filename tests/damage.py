"""Ways to damage a store, and to read the problems found by `verify`."""

import json

from distort_pipeline.commands.verify import verify


def flip(path, index, bit=0):
    data = bytearray(path.read_bytes())
    data[index] ^= 1 << bit
    path.write_bytes(data)


def change_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def problems(path, **options):
    return "\n".join(verify(path, **options).problems)


def only_problem(path, **options):
    found_problems = verify(path, **options).problems
    assert len(found_problems) == 1, found_problems
    return found_problems[0]
