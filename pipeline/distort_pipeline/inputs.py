"""What `generate` works on when little is named: any images, or the built-in ones; pretrained generators."""

from __future__ import annotations

import sys
from pathlib import Path

from distort_pipeline.assets import PRETRAINED, sample_folder
from distort_pipeline.config import IngestConfig
from distort_pipeline.errors import PipelineError
from distort_pipeline.params import replaced
from distort_pipeline.stores.files import read_json
from distort_pipeline.stores.manifests import is_manifest, read_manifest
from distort_pipeline.stores.remote import RemotePath

MANIFEST, MODELS = Path("manifest.jsonl"), Path("models")  # what the other words leave unless told otherwise


def resolve_inputs(images: Path | None, out: Path, config: IngestConfig) -> Path:
    """Return the manifest of `images`: itself, or made beside `out` of anything that `ingest` takes.

    Without images that is the manifest.jsonl of this folder, or one of the built-in photographs.
    """
    from distort_pipeline.steps import ingest

    if images is None and MANIFEST.is_file():
        return MANIFEST
    if images is not None and _is_manifest(images):
        return images
    source = sample_folder() if images is None else images
    made = _own_manifest(out)
    new = made.with_name(f".{made.name}")  # what the corpus that may be there was made of stays until it is clear
    ingest.run(
        replaced(config, source=str(source), val_count=1), new, made.with_suffix(".rejected.csv"), for_training=False
    )
    _require_same(out, new)
    new.replace(made)
    print(f"images: {'the built-in sample' if images is None else source}, listed in {made}", file=sys.stderr)
    return made


def manifest_beside(store: Path) -> Path:
    """Return the manifest that `manifest_of` made for `store`, or the one in this folder where there is none."""
    return _own_manifest(store) if _own_manifest(store).is_file() else MANIFEST


def _require_same(out: Path, manifest: Path) -> None:
    """Delete the `manifest` and raise PipelineError if a finished corpus at `out` was made of another one."""
    metadata = read_json(out / "store.json") if (out / "store.json").is_file() else None
    made_of = metadata.get("manifest_digest") if isinstance(metadata, dict) else None
    if made_of is not None and made_of != read_manifest(manifest).digest:
        manifest.unlink()
        raise PipelineError(
            f"{out} already exists and was made of other images; name another place with --out, or delete it first"
        )


def _own_manifest(out: Path) -> Path:
    beside = Path() if isinstance(out, RemotePath) else out.parent  # a manifest is a file
    return beside / f"{out.name}.manifest.jsonl"


def models_or_pretrained(models: Path | None) -> Path:
    """Return `models`, else the folder models here, else the pretrained generators."""
    if models is not None:
        return models
    if MODELS.is_dir():
        print(f"models: those in the folder {MODELS} here, in place of the pretrained generators", file=sys.stderr)
        return MODELS
    print(f"models: the pretrained generators that come with the package, in {PRETRAINED}", file=sys.stderr)
    return PRETRAINED


def _is_manifest(path: Path) -> bool:
    if path.suffix != ".jsonl" or not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        return is_manifest(file.readline())
