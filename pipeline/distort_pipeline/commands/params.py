"""params.yaml: read and checked by the sections of `config.py`; its JSON schema for editors is written from them."""

from __future__ import annotations

import dataclasses
import json
import sys
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
    kinds,
    required_kind,
)
from distort_pipeline.errors import PipelineError, did_you_mean

PARAMS_KEY = "distort_pipeline"  # the first key of our params.yaml; its value is the format version
PARAMS_VERSION = 1
JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}

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


SECTIONS: dict[str, type[Any]] = kinds(Params)


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
    if (version := document.pop(PARAMS_KEY)) != PARAMS_VERSION:
        raise PipelineError(f"{path} says {PARAMS_KEY}: {version!r}; this version reads {PARAMS_VERSION} only")
    for name in document:
        if name not in SECTIONS:
            raise PipelineError(f"{path}: unknown section {name!r}{did_you_mean(str(name), SECTIONS)}")
    return Params(
        **{
            name: parse_section(SECTIONS[name], {} if values is None else values, where=str(path))
            for name, values in document.items()
        }
    )


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
    known = kinds(kind)
    for name in values:
        if name not in known:
            raise PipelineError(f"{where}: unknown setting {kind.section}.{name}{did_you_mean(str(name), known)}")
    return kind(**{name: _typed(known[name], value, f"{kind.section}.{name}") for name, value in values.items()})


def replaced(section: Section, **changes: Any) -> Section:
    """Return `section` with all `changes` except None, checked like the values of a parameter file."""
    known = kinds(type(section))
    settings = {
        name: _typed(known[name], value, f"{section.section}.{name}")
        for name, value in changes.items()
        if value is not None
    }
    return dataclasses.replace(section, **settings)  # type: ignore[type-var]


def _typed(hint: Any, value: object, setting: str) -> Any:
    """Return `value` as the declared type `hint`; only integers and numeric text become floats."""
    kind, nullable = required_kind(hint)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if nullable and value is None:
        return None
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise PipelineError(f"{setting} must be a list, got {value!r}")
        return tuple(_typed(arguments[0], item, setting) for item in value)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise PipelineError(f"{setting} must be a mapping, got {value!r}")
        return {_typed(str, key, setting): _typed(arguments[1], item, setting) for key, item in value.items()}
    if kind is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)  # of text too: YAML 1.1 reads 3e-4 as text
        except OverflowError:
            raise PipelineError(f"{setting} must be a finite number, got a larger integer") from None
        except ValueError:
            raise PipelineError(f"{setting} must be of type float, got {value!r}") from None
        if not abs(number) <= sys.float_info.max:
            raise PipelineError(f"{setting} must be a finite number, got {number}")
        return number
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise PipelineError(f"{setting} must be of type {kind.__name__}, got {value!r}")


def schema() -> dict[str, object]:
    """Return the JSON Schema of a params.yaml."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "params.yaml of distort-pipeline",
        "type": "object",
        "properties": {
            PARAMS_KEY: {"description": "Version of the format.", "const": PARAMS_VERSION},
            **{name: _section_schema(kind) for name, kind in SECTIONS.items()},
        },
        "required": [PARAMS_KEY],
        "additionalProperties": False,
    }


def _section_schema(kind: type[Any]) -> dict[str, object]:
    defaults, properties = kind(), {}
    for item in dataclasses.fields(kind):
        help_without_default, allowed = item.metadata["help"].split("  [")[0], item.metadata["allowed"]
        properties[item.name] = {
            "description": help_without_default,
            "default": getattr(defaults, item.name),
            **_value_schema(kinds(kind)[item.name], **(allowed.keywords if allowed else {})),
        }
    return {
        "description": kind.__doc__,
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": False,
    }


def _value_schema(hint: Any, **keywords: Any) -> dict[str, object]:
    """Return the schema of a value of the declared type `hint`, with the `keywords` of its range."""
    kind, nullable = required_kind(hint)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        keywords["items"] = _value_schema(arguments[0], **keywords.get("items", {}))
    elif origin is dict:
        keywords["additionalProperties"] = _value_schema(arguments[1])
    elif nullable and "enum" in keywords:
        keywords["enum"] = (*keywords["enum"], None)
    name = {tuple: "array", dict: "object"}.get(origin) or JSON_TYPES[kind]
    return {"type": [name, "null"] if nullable else name, **keywords}


if __name__ == "__main__":  # make schema
    print(json.dumps(schema(), indent=2, ensure_ascii=False))
