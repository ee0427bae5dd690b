"""What the search of a corpus's page looks through."""

import pyarrow as pa

from distort_pipeline.reports.image_index import image_index

pytest_plugins = ["corpus_fixtures"]


def test_every_sample_of_a_corpus_is_found_under_its_image(corpus):
    index = image_index(corpus.table())
    assert index.kinds == (("jpeg", 1, True), ("white_noise", 1, True))
    assert [image for image, _, _ in index.images] == sorted({record.image for record in corpus.records})
    for image, split, parts in index.images:
        own = [record for record in corpus.records if record.image == image]
        assert {record.split for record in own} == {split}
        assert sum(part[3] for part in parts) == len(own)
        for place, first, last, count, first_batch, last_batch, psnr, _ in parts:
            of_part = [record for record in own if record.distortion == index.kinds[place][0]]
            assert (first, last, count) == (of_part[0].sample, of_part[-1].sample, len(of_part))
            assert (first_batch, last_batch) == (of_part[0].batch, of_part[-1].batch)
            assert abs(psnr - sum(record.psnr for record in of_part) / count) < 0.01


def test_images_without_room_are_counted_and_the_urgent_ones_stay(corpus):
    whole = image_index(corpus.table())
    last = whole.images[-1][0]
    cut = image_index(corpus.table(), first={last}, limit_bytes=300)
    assert cut.left_out == len(whole.images) - len(cut.images) > 0
    assert last in {image for image, _, _ in cut.images}


def test_a_corpus_without_labels_has_none_in_its_index(corpus):
    table = corpus.table()
    nulls = pa.nulls(table.num_rows, pa.float64())
    for name in ("psnr", "ssim"):
        table = table.set_column(table.schema.get_field_index(name), name, nulls)
    assert {part[-2:] for _, _, parts in image_index(table).images for part in parts} == {(None, None)}
