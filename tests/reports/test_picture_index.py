"""What the search of a corpus's page looks through."""

import pyarrow as pa

from distort_pipeline.reports.picture_index import picture_index

pytest_plugins = ["corpus_fixtures"]


def test_every_sample_of_a_corpus_is_found_under_its_picture(corpus):
    index = picture_index(corpus.table())
    assert index.kinds == (("jpeg", 1, True), ("white_noise", 1, True))
    assert [picture for picture, _, _ in index.pictures] == sorted({record.picture for record in corpus.records})
    for picture, split, parts in index.pictures:
        own = [record for record in corpus.records if record.picture == picture]
        assert {record.split for record in own} == {split}
        assert sum(part[3] for part in parts) == len(own)
        for place, first, last, count, first_batch, last_batch, psnr, _ in parts:
            of_part = [record for record in own if record.distortion == index.kinds[place][0]]
            assert (first, last, count) == (of_part[0].sample, of_part[-1].sample, len(of_part))
            assert (first_batch, last_batch) == (of_part[0].batch, of_part[-1].batch)
            assert abs(psnr - sum(record.psnr for record in of_part) / count) < 0.01


def test_pictures_without_room_are_counted_and_the_urgent_ones_stay(corpus):
    whole = picture_index(corpus.table())
    last = whole.pictures[-1][0]
    cut = picture_index(corpus.table(), first={last}, limit_bytes=300)
    assert cut.left_out == len(whole.pictures) - len(cut.pictures) > 0
    assert last in {picture for picture, _, _ in cut.pictures}


def test_a_corpus_without_labels_has_none_in_its_index(corpus):
    table = corpus.table()
    nulls = pa.nulls(table.num_rows, pa.float64())
    for name in ("psnr", "ssim"):
        table = table.set_column(table.schema.get_field_index(name), name, nulls)
    assert {part[-2:] for _, _, parts in picture_index(table).pictures for part in parts} == {(None, None)}
