"""Reads settings from a params.yaml; unknown keys are errors."""

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
