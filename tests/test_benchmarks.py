"""The cheap parts of the benchmarks: figures against bars, and the page made of them. Times are never asserted."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import NAMES
from benchmarks.harness import Figure, Result, Spread, in_turn, machine, ratios, spread, write_result
from benchmarks.results_page import read_results, render
from benchmarks.statistics import plain_histogram
from distort_pipeline.statistics.histograms import product_histogram

FOLDER = Path(__file__).parents[1] / "benchmarks"


def test_each_benchmark_is_a_file_of_its_name_and_the_readme_knows_it():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert find_spec(f"benchmarks.{name}"), name
        assert f"`{name}`" in readme, name


@pytest.mark.parametrize(
    ("at_least", "every", "bar", "reached"),
    [
        (True, False, 3.0, True),
        (True, True, 3.0, False),  # the least run is below
        (True, False, 3.1, False),
        (False, False, 3.0, True),
        (False, True, 3.0, False),
        (True, False, None, None),
    ],
)
def test_a_bar_is_for_the_median_or_for_every_run(at_least, every, bar, reached):
    figure = Figure("ours", "theirs", Spread(3, 2.0, 3.0, 4.0), bar=bar, at_least=at_least, every=every)
    assert figure.reached is reached


def test_forms_take_turns_and_their_first_turn_does_not_count():
    calls = []
    seconds = in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert "".join(calls) == "ababab"
    assert {name: len(found) for name, found in seconds.items()} == {"a": 2, "b": 2}
    assert ratios([1.0, 4.0], [2.0, 2.0]) == spread([0.5, 2.0])


def test_the_page_says_what_was_reached_missed_and_not_measured(tmp_path):
    figures = [
        Figure("ours", "theirs", spread([4.0, 5.0, 6.0]), bar=4.0),
        Figure("wall", "floor", spread([1.3]), bar=1.15, at_least=False),
        Figure("start", "–", spread([2.0]), "s"),
    ]
    write_result(
        "pairs", Result("a title", figures, ["a remark"], ["a peer"], {"numpy": "2"}), machine(), 1.0, tmp_path
    )
    page = render(read_results(tmp_path, ["statistics", "pairs"]), ["a GPU"])
    assert "| pairs | ours / theirs | ≥ 4 × | 5 × (4 – 6) | yes |" in page
    assert "| pairs | wall / floor | ≤ 1.15 × | 1.3 × | **no** |" in page
    for line in ("| start | – | 2 s | 1 | – |", "- a remark", "- pairs: a peer", "- a GPU", "AVX-512 BF16"):
        assert line in page


def test_stored_results_are_those_of_the_page():
    results = read_results(FOLDER / "results", NAMES)
    assert results
    page = (FOLDER / "RESULTS.md").read_text(encoding="utf-8")
    for result in results:
        assert f"## {result['name']}: {result['title']}" in page


def test_the_plain_statistics_are_the_same_statistics(photographs):
    for picture in photographs.values():
        assert np.abs(plain_histogram(picture) - product_histogram(picture)).sum() <= 20  # edges, float32 and float64
