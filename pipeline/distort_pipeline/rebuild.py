"""Makes a store again with its step, from the settings in its metadata and from inputs named by the user."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distort_pipeline.config import ExportConfig, GenerateConfig, PairsConfig
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers
from distort_pipeline.params import parse_section
from distort_pipeline.records import Report
from distort_pipeline.stores.files import read_json

Rebuild = Callable[[Path], Report]


@dataclass(frozen=True)
class Inputs:
    """Inputs of any kind of store; each kind needs some of these."""

    manifest: Path = Path("manifest.jsonl")
    models: Path = Path("models")
    corpus: Path = Path("corpus")
    root: Path | None = None  # folder of the manifest's images, if they have moved
    external: Mapping[str, str] = field(default_factory=dict)


def rebuilder(path: Path, inputs: Inputs, workers: Workers) -> Rebuild:
    """Return a function that makes the store at `path` again in another folder, with the same settings.

    PipelineError if the metadata names no step for sharded stores.
    """
    metadata = read_json(path / "store.json")
    settings = metadata.get("settings") if isinstance(metadata, dict) else None
    kind = settings.get("format") if isinstance(settings, dict) else None
    steps: dict[str, Callable[[dict[str, Any], Path], Report]] = {
        "pairs": lambda values, out: _pairs(values, out, inputs, workers),
        "corpus": lambda values, out: _corpus(values, out, inputs, workers),
        "export": lambda values, out: _export(values, out, inputs, workers),
    }
    if not isinstance(settings, dict) or kind not in steps:
        raise PipelineError(f"{path} has no shards to repair: run the command that made it again")
    return lambda out: steps[str(kind)](settings, out)


def _pairs(settings: dict[str, Any], out: Path, inputs: Inputs, workers: Workers) -> Report:
    from distort_pipeline.steps import pairs

    config = parse_section(PairsConfig, {**settings["pairs"], "external": dict(inputs.external)}, where="store.json")
    return pairs.run(config, inputs.manifest, out, root=inputs.root, workers=workers)


def _corpus(settings: dict[str, Any], out: Path, inputs: Inputs, workers: Workers) -> Report:
    from distort_pipeline.steps import generate

    config = parse_section(GenerateConfig, settings["generate"], where="store.json")
    return generate.run(config, inputs.manifest, inputs.models, out, root=inputs.root, workers=workers)


def _export(settings: dict[str, Any], out: Path, inputs: Inputs, workers: Workers) -> Report:
    from distort_pipeline.steps import export

    config = parse_section(ExportConfig, settings["export"], where="store.json")
    # without labels added after the export
    return export.run(config, inputs.corpus, out, workers=workers, labels=tuple(settings["labels"]))
