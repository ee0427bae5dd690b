import pytest

from distort_pipeline.data.labels import read_ratings
from distort_pipeline.errors import PipelineError


@pytest.fixture
def table(tmp_path):
    def write(text):
        (tmp_path / "scores.csv").write_text(text, encoding="utf-8")
        return tmp_path / "scores.csv"

    return write


def test_a_session_counts_once_for_each_sample(table):
    path = table("session,kind,sample,score\n1,sample,7,4\n1,repeat,7,5\n2,sample,7,3\n2,sample,8,1\n")
    ratings = read_ratings(path, range(10))
    assert ratings.kind == "rating"
    assert ratings.of_sample(7) == [4.5, 3.0]
    assert ratings.of_sample(8) == [1.0]
    assert ratings.of_sample(9) == []


def test_without_sessions_every_row_counts(table):
    assert read_ratings(table("sample,score\n7,4\n7,5\n"), range(10)).of_sample(7) == [4, 5]


def test_pristine_and_unrated_rows_are_counted_and_ignored(table):
    ratings = read_ratings(table("session,sample,score\n1,,5\n1,3,\n1,,\n2,3,2\n"), range(10))
    assert (ratings.pristine, ratings.unrated) == (1, 2)
    assert ratings.values == {3: {"2": [2.0]}}


def test_numbers_as_pandas_writes_them_and_comments_with_odd_line_ends_are_read(table):
    path = table('sample,score,comment\n7.0,4,\n,5,anchor\n8.0,2,before\u2028after\n9,1,"two\nlines"\n')
    ratings = read_ratings(path, range(10))
    assert ratings.values == {7: {"line 2": [4]}, 8: {"line 4": [2]}, 9: {"line 6": [1]}}
    assert (ratings.pristine, ratings.unrated) == (1, 0)


def test_headings_in_any_case_are_read_and_other_scales_are_welcome(table):
    ratings = read_ratings(table("Session, Sample, Score\n a, 7, 80\nb,7,95\n"), range(10))
    assert ratings.of_sample(7) == [80, 95]
    assert ratings.extremes == (80, 95)


def test_choices_rate_both_sides(table):
    path = table("left_sample,right_sample,choice\n1,2,left\n2,1,same\n2,3,right\n,3,left\n")
    ratings = read_ratings(path, range(10))
    assert ratings.kind == "choice"
    assert [ratings.of_sample(number) for number in (1, 2, 3)] == [[1, 0.5], [0, 0.5, 0], [1]]
    assert ratings.pristine == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample,mark\n1,2\n", r"line 1: there must be columns sample and score, or left_sample and .*: sample, mark"),
        ("", "columns are: none"),
        ("sample,score\n1,2\n1,good\n", r"line 3: score must be a number, got 'good'"),
        ("sample,score\n1,nan\n", r"line 2: score must be a number, got 'nan'"),
        ("stimulus,sample,score\ns,1,55\n", r"line 2: score of a study must be from 1 to 5, got 55"),
        ("stimulus,sample,score\ns,,0\n", r"line 2: score of a study must be from 1 to 5, got 0"),
        ("sample,score\n10,2\n", r"line 2: no sample of this corpus has the number '10'; it has 10"),
        ("sample,score\n-1,2\n", r"line 2: no sample of this corpus has the number '-1'"),
        ("sample,score\n²,2\n", r"line 2: no sample of this corpus has the number '²'"),
        ("sample,score\n7.5,2\n", r"line 2: no sample of this corpus has the number '7.5'"),
        ("sample,score,note\n7,2," + "x" * 140_000, "line 2: not a CSV table: field larger than field limit"),
        ("left_sample,right_sample,choice\n1,2,up\n", r"line 2: choice must be left, right, same or empty, got 'up'"),
    ],
)
def test_invalid_ratings_are_named_with_their_line(table, text, message):
    with pytest.raises(PipelineError, match=message):
        read_ratings(table(text), range(10))


def test_a_missing_table_is_said(tmp_path):
    with pytest.raises(PipelineError, match="cannot be read"):
        read_ratings(tmp_path / "none.csv", range(10))
