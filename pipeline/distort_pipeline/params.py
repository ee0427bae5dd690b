"""Reads a params.yaml into settings: an unknown key is an error, so that a typo cannot become a default."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Mapping
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
from distort_pipeline.errors import PipelineError, did_you_mean

PARAMS_KEY = "distort_pipeline"  # the first key of a params.yaml that is ours; its value is the format's version
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


def load_params(path: Path) -> Params:
    """Return the settings of the params.yaml at `path`; PipelineError names what is wrong in it, and where."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
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
    known = {part.name: part for part in dataclasses.fields(Params)}
    sections: dict[str, Any] = {}
    for name, values in document.items():
        if name == PARAMS_KEY:
            continue
        if name not in known:
            raise PipelineError(f"{path}: unknown section {name!r}{did_you_mean(str(name), known)}")
        sections[name] = parse_section(SECTIONS[name], {} if values is None else values, where=str(path))
    return Params(**sections)


def is_ours(document: object) -> bool:
    """Return whether a parsed YAML `document` says in its first key that it belongs to this program.

    >>> is_ours({"distort_pipeline": 1}), is_ours({"train": {}}), is_ours(None)
    (True, False, False)
    """
    return isinstance(document, dict) and next(iter(document), None) == PARAMS_KEY


def says_it_is_ours(path: Path) -> bool:
    """Return whether the file at `path` is YAML that says in its first key that it belongs to this program."""
    try:
        return is_ours(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return False


def parse_section(kind: type[Section], values: object, *, where: str = "settings") -> Section:
    """Return the section `kind` made of a mapping of `values`, each checked against its declared type."""
    if not isinstance(values, Mapping):
        raise PipelineError(f"{where}: {kind.section} must be a mapping of settings, got {values!r}")
    hints = typing.get_type_hints(kind)
    names = {part.name for part in dataclasses.fields(kind)}  # type: ignore[arg-type]
    settled = {}
    for name, value in values.items():
        if name not in names:
            raise PipelineError(f"{where}: unknown setting {kind.section}.{name}{did_you_mean(str(name), names)}")
        settled[name] = _typed(hints[name], value, f"{kind.section}.{name}")
    return kind(**settled)


def replaced(section: Section, **changes: Any) -> Section:
    """Return `section` with those `changes` that are not None, checked like a parameter file's values."""
    hints = typing.get_type_hints(type(section))
    given = {
        name: _typed(hints[name], value, f"{section.section}.{name}")
        for name, value in changes.items()
        if value is not None
    }
    return dataclasses.replace(section, **given)  # type: ignore[type-var]


def _typed(hint: Any, value: object, place: str) -> Any:
    """Return `value` as the declared type `hint`; integers pass for floats, nothing else is converted silently."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _typed(next(part for part in arguments if part is not type(None)), value, place)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise PipelineError(f"{place} must be a list, got {value!r}")
        return tuple(_typed(arguments[0], part, place) for part in value)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise PipelineError(f"{place} must be a mapping, got {value!r}")
        return {_typed(str, key, place): _typed(arguments[1], part, place) for key, part in value.items()}
    if hint is float and not isinstance(value, bool):
        if isinstance(value, int | float):
            return _finite(value, place)
        if isinstance(value, str) and _is_number(value):  # YAML 1.1 reads 3e-4 as text
            return _finite(float(value), place)
    if isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise PipelineError(f"{place} must be of type {hint.__name__}, got {value!r}")


def _finite(value: float, place: str) -> float:
    if not abs(value) <= sys.float_info.max:  # also an integer that no float can hold
        raise PipelineError(f"{place} must be a finite number, got {value if isinstance(value, float) else 'more'}")
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
