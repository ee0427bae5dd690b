import dataclasses

import pyarrow as pa
import pytest

from distort_pipeline.data.arrays import read_records, read_table, schema_of, write_table
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import ImageRecord, PairRecord, Rejected, SampleRecord, TileRecord, digest_rows


def example(kind, **changes):
    examples = {"int": 2**62, "str": "Tür", "float": 0.1}
    values = {field.name: examples.get(field.type) for field in dataclasses.fields(kind)}
    return kind(**{**values, **changes})


@pytest.mark.parametrize("kind", [PairRecord, ImageRecord, TileRecord, SampleRecord])
def test_records_come_back_equal_and_in_order(tmp_path, kind):
    first, second, third = (example(kind, image=name) if hasattr(kind, "x") else example(kind) for name in "abc")
    write_table(tmp_path / "1.parquet", [first, second], kind)
    write_table(tmp_path / "2.parquet", [third], kind)
    paths = [tmp_path / "2.parquet", tmp_path / "1.parquet"]
    assert read_records(paths, kind) == [third, first, second]
    assert digest_rows(read_records(paths, kind)) == digest_rows([third, first, second])
    assert read_table(paths, kind).schema == schema_of(kind)


def test_only_what_may_be_absent_is_nullable():
    schema = schema_of(SampleRecord)
    assert {field.name for field in schema if field.nullable} == {"target", "psnr", "ssim", "ms_ssim", "gmsd"}
    assert schema.field("seed").type == pa.int64()
    assert schema.field("clipped").type == pa.float64()


def test_no_parts_are_an_empty_table_and_an_empty_part_is_a_part(tmp_path):
    assert read_table([], Rejected).num_rows == 0
    assert read_table([], Rejected).column_names == ["path", "reason"]
    write_table(tmp_path / "none.parquet", [], Rejected)
    assert read_records([tmp_path / "none.parquet"], Rejected) == []


def test_missing_and_damaged_parts_are_errors_for_people(tmp_path):
    path = tmp_path / "a.parquet"
    with pytest.raises(PipelineError, match="missing or damaged"):
        read_table([path], Rejected)
    write_table(path, [Rejected("a", "b")], Rejected)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(PipelineError, match="missing or damaged"):
        read_table([path], Rejected)
