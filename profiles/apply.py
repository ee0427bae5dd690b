"""`python -m profiles.apply NAME`: writes profiles/NAME.yaml into params.yaml and keeps its comments."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML  # a dependency of DVC

from distort_pipeline.commands.params import load_params
from distort_pipeline.errors import PipelineError, did_you_mean

PROFILES = Path(__file__).parent


def apply(name: str, params: Path) -> None:
    """Replace the settings of profile `name` in the file `params`; PipelineError if the result is invalid."""
    known = {path.stem: path for path in PROFILES.glob("*.yaml")}
    if name not in known:
        raise PipelineError(f"no profile is called {name!r}{did_you_mean(name, known)}")
    yaml = YAML()  # reads and writes comments
    yaml.indent(mapping=2, sequence=4, offset=2)
    before = params.read_bytes()
    settings: dict[str, Any] = yaml.load(before)
    for section, values in yaml.load(known[name]).items():
        settings[section].update(values)
    with params.open("wb") as file:
        yaml.dump(settings, file)
    try:
        load_params(params)
    except PipelineError:
        params.write_bytes(before)
        raise


if __name__ == "__main__":
    try:
        apply(sys.argv[1], Path("params.yaml"))
    except PipelineError as error:
        print(f"profile: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"params.yaml now has the settings of profiles/{sys.argv[1]}.yaml; to undo: git checkout params.yaml")
