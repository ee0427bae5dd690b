"""Settings and inputs of commands: params.yaml, default inputs, and the settings of a finished store."""

from __future__ import annotations

import dataclasses
import os
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from distort_pipeline.config import (
    ConfigSection,
    EvaluateConfig,
    ExportConfig,
    GenerateConfig,
    IngestConfig,
    PairsConfig,
    TrainConfig,
)
from distort_pipeline.data.builds import require_destination
from distort_pipeline.data.files import read_json
from distort_pipeline.data.manifests import is_manifest, read_manifest
from distort_pipeline.data.remote import RemotePath
from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.execution import Workers
from distort_pipeline.models.store import finished_models
from distort_pipeline.records import Report

PARAMS_KEY = "distort_pipeline"  # the first key of our params.yaml; its value is the format version
PARAMS_VERSION = 1

Section = TypeVar("Section", bound=ConfigSection)


@dataclass(frozen=True)
class Params:
    """All sections of a params.yaml."""

    ingest: IngestConfig = field(default_factory=IngestConfig)
    pairs: PairsConfig = field(default_factory=PairsConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    generate: GenerateConfig = field(default_factory=GenerateConfig)
    export: ExportConfig = field(default_factory=ExportConfig)


class UniqueKeys(yaml.SafeLoader):
    """YAML's safe loader; a key given twice in a mapping is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping of `node`."""
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1 and name != "<<":
                raise yaml.constructor.ConstructorError(problem=f"{name} is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def load_params(path: Path) -> Params:
    """Return the settings of the params.yaml at `path`; PipelineError names the first invalid setting."""
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), UniqueKeys)
    except FileNotFoundError:
        raise PipelineError(f"there is no parameter file {path}") from None
    except OSError as error:
        raise PipelineError(f"cannot read the parameter file {path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not is_ours(document):
        raise PipelineError(f"{path} is not a parameter file of this program: its first key is not '{PARAMS_KEY}'")
    if document[PARAMS_KEY] != PARAMS_VERSION:
        raise PipelineError(
            f"{path} says {PARAMS_KEY}: {document[PARAMS_KEY]!r}; this version reads {PARAMS_VERSION} only"
        )
    known = {section.name: section for section in dataclasses.fields(Params)}
    sections: dict[str, Any] = {}
    for name, values in document.items():
        if name == PARAMS_KEY:
            continue
        if name not in known:
            raise PipelineError(f"{path}: unknown section {name!r}{did_you_mean(str(name), known)}")
        sections[name] = parse_section(SECTIONS[name], {} if values is None else values, where=str(path))
    return Params(**sections)


def is_ours(document: object) -> bool:
    """Return whether a parsed YAML `document` starts with the key of this program.

    >>> is_ours({"distort_pipeline": 1}), is_ours({"train": {}}), is_ours(None)
    (True, False, False)
    """
    return isinstance(document, dict) and next(iter(document), None) == PARAMS_KEY


def has_our_key(path: Path) -> bool:
    """Return whether the file at `path` is YAML that starts with the key of this program."""
    try:
        return is_ours(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return False


def parse_section(kind: type[Section], values: object, *, where: str = "settings") -> Section:
    """Return a section of class `kind` with the settings in `values`, each checked against its declared type."""
    if not isinstance(values, Mapping):
        raise PipelineError(f"{where}: {kind.section} must be a mapping of settings, got {values!r}")
    hints = typing.get_type_hints(kind)
    names = {setting.name for setting in dataclasses.fields(kind)}  # type: ignore[arg-type]
    settings = {}
    for name, value in values.items():
        if name not in names:
            raise PipelineError(f"{where}: unknown setting {kind.section}.{name}{did_you_mean(str(name), names)}")
        settings[name] = _typed(hints[name], value, f"{kind.section}.{name}")
    return kind(**settings)


def replaced(section: Section, **changes: Any) -> Section:
    """Return `section` with all `changes` except None, checked like the values of a parameter file."""
    hints = typing.get_type_hints(type(section))
    settings = {
        name: _typed(hints[name], value, f"{section.section}.{name}")
        for name, value in changes.items()
        if value is not None
    }
    return dataclasses.replace(section, **settings)  # type: ignore[type-var]


def _typed(hint: Any, value: object, setting: str) -> Any:
    """Return `value` as the declared type `hint`; only integers and numeric text become floats."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _typed(next(argument for argument in arguments if argument is not type(None)), value, setting)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise PipelineError(f"{setting} must be a list, got {value!r}")
        return tuple(_typed(arguments[0], item, setting) for item in value)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise PipelineError(f"{setting} must be a mapping, got {value!r}")
        return {_typed(str, key, setting): _typed(arguments[1], item, setting) for key, item in value.items()}
    if hint is float and not isinstance(value, bool):
        if isinstance(value, int | float):
            return _finite(value, setting)
        if isinstance(value, str) and _is_number(value):  # YAML 1.1 reads 3e-4 as text
            return _finite(float(value), setting)
    if isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise PipelineError(f"{setting} must be of type {hint.__name__}, got {value!r}")


def _finite(value: float, setting: str) -> float:
    if not abs(value) <= sys.float_info.max:  # also false for an integer beyond the range of floats
        raise PipelineError(
            f"{setting} must be a finite number, got {value if isinstance(value, float) else 'a larger integer'}"
        )
    return float(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


SECTIONS: dict[str, type[Any]] = {
    kind.section: kind
    for kind in (IngestConfig, PairsConfig, TrainConfig, EvaluateConfig, GenerateConfig, ExportConfig)
}


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


PRETRAINED = Path(__file__).parents[1] / "pretrained"
SAMPLES = (
    Path(sys.prefix) / "share" / "distort-pipeline" / "sample",  # installed from a wheel
    Path(__file__).parents[3] / "data" / "sample",  # in a checkout
)


def sample_folder() -> Path:
    """Return the folder of the built-in photographs; PipelineError if this installation has none."""
    for folder in SAMPLES:
        if folder.is_dir():
            return folder
    raise PipelineError("this installation lacks the built-in photographs; name a folder of your own")


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
