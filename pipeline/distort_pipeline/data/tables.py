"""Tables of records as Parquet, one file for each finished shard or batch."""

from __future__ import annotations

import dataclasses
import io
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from distort_pipeline.data.files import write_parts
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import row

Record = TypeVar("Record")

ARROW = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_()}


def write_table(path: Path, records: Sequence[Any], kind: type[Any]) -> None:
    """Write `records` of the dataclass `kind` as one Parquet file, atomically."""
    table = pa.Table.from_pylist([row(record) for record in records], schema=schema_of(kind))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_parts(path, (buffer.getvalue(),), flush=False)


def read_table(paths: Sequence[Path], kind: type[Any]) -> pa.Table:
    """Return the rows of all `paths`, in order."""
    try:
        tables = [pq.read_table(pa.BufferReader(path.read_bytes()), schema=schema_of(kind)) for path in paths]
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise PipelineError(f"a record file is missing or damaged: {error}") from None
    return pa.concat_tables(tables) if tables else schema_of(kind).empty_table()


def read_records(paths: Sequence[Path], kind: type[Record]) -> list[Record]:
    """Return the rows of all `paths` as records of the dataclass `kind`, in order."""
    table = read_table(paths, kind)
    try:
        return [kind(**values) for values in table.to_pylist()]
    except UnicodeDecodeError as error:
        raise PipelineError(f"a record file is damaged: {error}") from None


def schema_of(kind: type[Any]) -> pa.Schema:
    """Return the Arrow schema of a record dataclass."""
    hints = typing.get_type_hints(kind)
    fields = []
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        optional = typing.get_origin(hint) in (typing.Union, types.UnionType)
        plain = next(a for a in typing.get_args(hint) if a is not type(None)) if optional else hint
        fields.append(pa.field(field.name, ARROW[plain], nullable=optional))
    return pa.schema(fields)
