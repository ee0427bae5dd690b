"""Default inputs of `generate`: a manifest made of any images, the sample, the pretrained generators."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from distort_pipeline.assets import PRETRAINED, sample_folder
from distort_pipeline.config import IngestConfig
from distort_pipeline.errors import PipelineError
from distort_pipeline.params import replaced
from distort_pipeline.stores.builds import require_destination
from distort_pipeline.stores.files import read_json
from distort_pipeline.stores.manifests import is_manifest, read_manifest
from distort_pipeline.stores.models import finished_models
from distort_pipeline.stores.remote import RemotePath

MANIFEST, MODELS = Path("manifest.jsonl"), Path("models")  # defaults of `ingest` and `train`


def resolve_inputs(images: Path | None, out: Path, config: IngestConfig) -> tuple[Path, tuple[str, ...]]:
    """Return the manifest of `images`, and the summary of their ingest: `images` itself, or a manifest beside `out`.

    Without `images`: the manifest.jsonl of this folder, or a manifest of the built-in photographs.
    """
    from distort_pipeline.steps import ingest

    require_destination(out)
    if images is None and _is_manifest(MANIFEST):
        return MANIFEST, ()
    if images is not None and _is_manifest(images):
        return images, ()
    source = sample_folder() if images is None else images
    manifest = _default_manifest(out)
    new = manifest.with_name(f".{manifest.name}")  # the manifest of an earlier corpus stays until the check below
    report = ingest.run(
        replaced(config, source=str(source), val_count=1),
        new,
        manifest.with_suffix(".rejected.csv"),
        for_training=False,
    )
    _require_same(out, new)
    new.replace(manifest)
    print(f"images: {'the built-in sample' if images is None else source}, listed in {manifest}", file=sys.stderr)
    return manifest, tuple(line for line in report.lines if not line.startswith("manifest"))


def manifest_beside(store: Path) -> Path:
    """Return the manifest beside `store` made by `resolve_inputs`; manifest.jsonl of this folder if there is none."""
    manifests = map(_default_manifest, (store, store.resolve()))  # beside a link, or beside its target
    return next((manifest for manifest in manifests if manifest.is_file()), MANIFEST)


def _require_same(out: Path, manifest: Path) -> None:
    """Delete `manifest` and raise PipelineError if a finished corpus at `out` was made of another manifest."""
    metadata = read_json(out / "store.json") if (out / "store.json").is_file() else None
    corpus_digest = metadata.get("manifest_digest") if isinstance(metadata, dict) else None
    if corpus_digest is not None and corpus_digest != read_manifest(manifest).digest:
        manifest.unlink()
        raise PipelineError(
            f"{out} already exists and was made of other images; choose another folder with --out, or delete it first"
        )


def _default_manifest(out: Path) -> Path:
    if isinstance(out, RemotePath):  # manifests are local files
        return Path(f"{out.name}.manifest.jsonl")
    destination = out if out.name not in ("", "..") else out.resolve()
    writable = os.access(
        next(folder for folder in (destination.parent, *destination.resolve().parents) if folder.exists()), os.W_OK
    )
    return (destination.parent if writable else Path()) / f"{destination.name}.manifest.jsonl"


def models_or_pretrained(models: Path | None) -> Path:
    """Return `models`, else the folder `models` here if it holds a model, else that of the pretrained generators."""
    if models is not None:
        return models
    if finished_models(MODELS):
        print(f"models: from the folder {MODELS} here, instead of the pretrained generators", file=sys.stderr)
        return MODELS
    reason = f"; the folder {MODELS} here holds no trained model" if MODELS.exists() else ""
    print(f"models: the pretrained generators shipped with the package, in {PRETRAINED}{reason}", file=sys.stderr)
    return PRETRAINED


def _is_manifest(path: Path) -> bool:
    if path.suffix != ".jsonl" or not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        return is_manifest(file.readline())
