"""The image index of a corpus page."""

import pyarrow as pa

from distort_pipeline.reports.corpus_page import image_index

pytest_plugins = ["corpus_fixtures"]


def test_every_sample_of_a_corpus_is_found_under_its_image(corpus):
    index = image_index(corpus.table())
    assert index.kinds == (("jpeg", 1, True), ("white_noise", 1, True))
    assert [image for image, _, _ in index.images] == sorted({record.image for record in corpus.records})
    for image, split, groups in index.images:
        records = [record for record in corpus.records if record.image == image]
        assert {record.split for record in records} == {split}
        assert sum(group[3] for group in groups) == len(records)
        for kind, first, last, count, first_batch, last_batch, psnr, _ in groups:
            group = [record for record in records if record.distortion == index.kinds[kind][0]]
            assert (first, last, count) == (group[0].sample, group[-1].sample, len(group))
            assert (first_batch, last_batch) == (group[0].batch, group[-1].batch)
            assert abs(psnr - sum(record.psnr for record in group) / count) < 0.01


def test_omitted_images_are_counted_and_the_first_stay(corpus):
    complete = image_index(corpus.table())
    last = complete.images[-1][0]
    cut = image_index(corpus.table(), first={last}, limit_bytes=300)
    assert cut.left_out == len(complete.images) - len(cut.images) > 0
    assert last in {image for image, _, _ in cut.images}


def test_a_corpus_without_metrics_has_none_in_its_index(corpus):
    table = corpus.table()
    nulls = pa.nulls(table.num_rows, pa.float64())
    for name in ("psnr", "ssim"):
        table = table.set_column(table.schema.get_field_index(name), name, nulls)
    assert {group[-2:] for _, _, groups in image_index(table).images for group in groups} == {(None, None)}
