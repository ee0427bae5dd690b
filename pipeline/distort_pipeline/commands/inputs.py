"""Inputs of commands: the default manifest and models, the built-in photographs, and those of a finished store."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from distort_pipeline.commands.params import replaced
from distort_pipeline.config import IngestConfig
from distort_pipeline.data.builds import require_destination
from distort_pipeline.data.files import read_json
from distort_pipeline.data.manifests import is_manifest_file, read_manifest
from distort_pipeline.data.remote import is_remote
from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.models.store import finished_models, model_folders

PACKAGE = Path(__file__).parents[1]
PRETRAINED = PACKAGE / "pretrained"
SAMPLE = PACKAGE / "data" / "sample"  # the built-in photographs; in a checkout a link to data/sample


def pretrained(distortion: str) -> Path:
    """Return the folder of the pretrained generator of `distortion`; PipelineError if none is shipped."""
    folder = PRETRAINED / distortion
    if not (folder / "store.json").is_file():
        shipped = ", ".join(sorted(path.parent.name for path in PRETRAINED.glob("*/store.json")))
        raise PipelineError(f"there is no pretrained generator of {distortion}, only of: {shipped}")
    return folder


MANIFEST, MODELS = Path("manifest.jsonl"), Path("models")  # defaults of `ingest` and `train`


def resolve_inputs(images: Path | None, out: Path, config: IngestConfig) -> tuple[Path, tuple[str, ...]]:
    """Return the manifest of `images`, and the summary of their ingest: `images` itself, or a manifest beside `out`.

    Without `images`: the manifest.jsonl of this folder, or a manifest of the built-in photographs.
    """
    from distort_pipeline.steps import ingest

    require_destination(out)
    if images is None and is_manifest_file(MANIFEST):
        return MANIFEST, ()
    if images is not None and is_manifest_file(images):
        return images, ()
    source = SAMPLE if images is None else images
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
    if is_remote(out):  # manifests are local files
        return Path(f"{out.name}.manifest.jsonl")
    destination = out if out.name not in ("", "..") else out.resolve()
    writable = os.access(
        next(folder for folder in (destination.parent, *destination.resolve().parents) if folder.exists()), os.W_OK
    )
    return (destination.parent if writable else Path()) / f"{destination.name}.manifest.jsonl"


def models_for(names: Iterable[str], models: Path | None = None) -> dict[str, Path]:
    """Return name → folder of the generators that a corpus may be made of: all known ones if `names` are requested.

    Without `names`, those in `models` (default: the folder `models` here) if there are any, else the shipped ones.
    """
    if set(names):
        return known_models(models)
    own = finished_models(MODELS) if models is None else model_folders(models)
    if not own:
        reason = f"; the folder {MODELS} here holds no trained model" if MODELS.exists() else ""
        print(f"models: the pretrained generators shipped with the package, in {PRETRAINED}{reason}", file=sys.stderr)
    elif models is None:
        print(f"models: from the folder {MODELS} here; --distortions takes pretrained ones too", file=sys.stderr)
    return own or finished_models(PRETRAINED)


def known_models(models: Path | None = None) -> dict[str, Path]:
    """Return name → folder of the shipped generators and of those in `models` (default: the folder `models` here).

    A generator in `models` comes before a shipped one of its name.
    """
    return {**finished_models(PRETRAINED), **(finished_models(MODELS) if models is None else model_folders(models))}


def generator_folder(name_or_path: str | Path) -> Path:
    """Return a model folder by its path, or by its name among the `known_models`; PipelineError if there is none."""
    if (Path(name_or_path) / "store.json").is_file():
        return Path(name_or_path)
    known = known_models()
    if str(name_or_path) not in known:
        raise PipelineError(f"no generator is called {str(name_or_path)!r}{did_you_mean(str(name_or_path), known)}")
    return known[str(name_or_path)]
