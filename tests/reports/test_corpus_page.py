"""The page of a corpus: contents, escaping of names, size."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_reports import NASTY, fake_corpus, page_of

from distort_pipeline.data.corpora import open_corpus
from distort_pipeline.data.corpus_metadata import CorpusMetadata
from distort_pipeline.data.images import decode
from distort_pipeline.errors import PipelineError
from distort_pipeline.reports.charts import histogram_chart, threshold_chart
from distort_pipeline.reports.corpus_page import EXAMPLES, choose_batches, write_corpus_page
from distort_pipeline.reports.corpus_verdict import findings, read_batches, summaries_of, verdict

pytest_plugins = ["corpus_fixtures"]


def change(path: Path, edit: Any) -> None:
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


def heading(page: str) -> str:
    match = re.search(r'<div class="verdict (\w+)">\s*<strong>(.*?)</strong>', page)
    assert match is not None
    return f"{match[1]}: {match[2]}"


class Tags(HTMLParser):
    """Collects all tags with their attributes, and checks their nesting."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "input", "br", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_verdict_when_all_batches_are_accepted(tmp_path: Path):
    text = page_of(fake_corpus(tmp_path))
    assert heading(text) == "good: All 8 batches are accepted."
    assert "Rejected batches" not in text


def test_requested_quality_out_of_range_is_reported(tmp_path: Path):
    corpus = fake_corpus(tmp_path, batches=2)
    report = {"measure": "psnr", "least": 30.0, "most": 30.0, "reached_mean": 31.0, "mean_abs_error": 1.0}
    report |= {"spearman": None, "unclipped": None, "resampled": 0.0}
    for batch, share in (("00000", 0.5), ("00001", 0.1)):
        target = {"target": {**report, "severity_clipped": share}}
        change(corpus / "reports" / f"batch-0-{batch}.json", lambda report, target=target: report.update(target))
    change(corpus / "store.json", lambda store: store["settings"]["generate"].update(target={"psnr": [30]}))
    text = page_of(corpus)
    assert "The requested PSNR of all samples is 30 dB." in text
    assert "30 % of the samples of jpeg are clipped at severity 0 or the highest" in text
    assert "PSNR, dB</td><td>30.000</td>" in text
    assert "samples of jp2k are clipped" not in text


def test_generated_and_true_quality_are_of_the_same_samples(tmp_path: Path):
    corpus = fake_corpus(tmp_path, batches=1)
    assert "<td>27.40 / 27.52</td>" in page_of(corpus)
    for name in ("batch-0", "batch-1"):
        change(corpus / "reports" / f"{name}-00000.json", lambda report: report["psnr"].update(paired_mean=None))
    assert "<td>27.31 / 27.52</td>" in page_of(corpus)  # without a finite value of the same samples, of all


def test_verdict_names_rejected_batches_and_shows_them_first(tmp_path: Path):
    text = page_of(fake_corpus(tmp_path, rejected=(("jpeg", 1), ("jpeg", 3))))
    farthest_out = "distribution: JSD_NSS 0.043 bits, accepted up to 0.02"
    assert heading(text) == f"bad: 2 of 8 batches are rejected (jpeg 2 times); farthest out is {farthest_out}."
    assert f"jpeg: 2 of 4 batches rejected; farthest out: {farthest_out}." in text
    table = text[text.index('id="batches"') :]
    names = re.findall(r'<th scope="row">(?:<a [^>]*>)?(\w+ \d)', table)
    assert names[:3] == ["jpeg 1", "jpeg 3", "jp2k 0"]
    assert "JSD_NSS 0.0350 bits, accepted up to 0.02" in text


def test_verdict_when_all_batches_are_rejected(tmp_path: Path):
    rejected = tuple((name, batch) for name in ("jpeg", "jp2k") for batch in range(4))
    text = page_of(fake_corpus(tmp_path, rejected=rejected))
    assert heading(text).startswith("bad: All 8 batches are rejected; farthest out is distribution: JSD_NSS")
    assert text.index('id="rejected"') < text.index('id="overview"')
    assert [text.count(f">{name} {batch}</a> (rejected)") for name in ("jpeg", "jp2k") for batch in range(4)] == [1] * 8
    assert text.count("<img") == 8 * 5


def test_verdict_without_all_reports_is_not_good(tmp_path: Path):
    corpus = fake_corpus(tmp_path, batches=1)
    (corpus / "reports" / "batch-1-00000.json").unlink()
    text = page_of(corpus)
    assert heading(text) == "unknown: The only batch is accepted. 1 more has no report."
    assert "its reports 1: store.json and reports do not match" in text
    (corpus / "reports" / "batch-0-00000.json").unlink()
    assert heading(page_of(corpus)).startswith("unknown: No batch has a report")


def test_a_distortion_nearer_to_another_is_remarked(tmp_path: Path):
    corpus = fake_corpus(tmp_path, batches=1)
    change(corpus / "reports" / "batch-0-00000.json", lambda report: report["against"].update(jp2k=0.004))
    assert "Generated jpeg is nearer to true jp2k (0.0040 bits) than to true jpeg" in page_of(corpus)


def external_page(folder: Path, identity_bits: float, *, content_bits: float | None = None) -> str:
    """Return the page of a batch by a model of external pairs, at 0.01 bits."""
    corpus = fake_corpus(folder, batches=1)

    def edit(report: dict[str, Any]) -> None:
        report.update(external=True, parameters={}, comparison="unpaired", against={"pristine": 0.002})
        report["divergence"].update(jsd_bits=0.01, identity_bits=identity_bits)
        report["noise_floors"].update(redraw_bits=None, between_content_bits=content_bits)

    change(corpus / "reports" / "batch-0-00000.json", edit)
    return page_of(corpus)


def test_an_external_distortion_has_no_nearest_and_is_compared_with_the_identity_baseline(tmp_path: Path):
    page = external_page(tmp_path, 0.08)
    assert heading(page).startswith("good")
    assert "trained on external pairs" in page
    assert "identity 0.0800" in page
    assert not re.search(r'class="left">pristine</td>', page)


def test_an_external_distortion_no_better_than_the_identity_baseline_gets_no_good_verdict(tmp_path: Path):
    page = external_page(tmp_path, 0.009)
    assert heading(page).startswith("unknown")
    assert "jpeg is mismatched" in page
    assert "no nearer to its model&#39;s true images (0.0100 bits) than the identity baseline (0.0090)." in page


@pytest.mark.parametrize(("identity", "content", "undecided"), [(0.009, 0.002, True), (0.009, 0.0005, False)])
def test_content_too_unlike_the_models_leaves_an_external_distortion_undecided(
    tmp_path: Path, identity: float, content: float, undecided: bool
):
    page = external_page(tmp_path, identity, content_bits=content)
    assert heading(page).startswith("unknown")
    assert ("cannot be judged" in page) is undecided
    assert ("jpeg is mismatched" in page) is not undecided
    assert (f"by less than other content makes ({content:.4f})" in page) is undecided


def test_names_are_escaped(tmp_path: Path):
    corpus = fake_corpus(tmp_path, distortions=("jpeg", NASTY), batches=2, rejected=((NASTY, 1),), licence=NASTY)
    change(
        corpus / "reports" / "batch-0-00000.json",
        lambda report: report.update(reasons=[NASTY], parameters={NASTY: NASTY}),
    )
    text = page_of(corpus, images=(NASTY, "wren-1"))
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 20
    scripts = [attributes for tag, attributes in Tags(text).seen if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "image-data"}, {}]
    data = json.loads(data_of(text))
    assert [image[0] for image in data["images"]] == [NASTY, "wren-1"]


def data_of(page: str) -> str:
    match = re.search(r'<script type="application/json" id="image-data">(.*?)</script>', page)
    assert match is not None
    return match[1]


def test_only_the_script_of_the_page_may_run(tmp_path: Path):
    text = page_of(fake_corpus(tmp_path, batches=1))
    policy = re.search(r"script-src 'sha256-(.*?)'", text)
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert policy is not None
    assert script is not None
    assert policy[1] == base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert "innerHTML" not in script[1]


def test_page_is_self_contained_and_well_nested(tmp_path: Path):
    text = page_of(fake_corpus(tmp_path, rejected=(("jpeg", 1),)))
    tags = Tags(text)
    assert tags.open == []
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    assert "url(" not in text
    assert not {"link", "iframe", "object"} & {tag for tag, _ in tags.seen}
    sources = [attributes["src"] or "" for _, attributes in tags.seen if "src" in attributes]
    assert len(sources) == (2 * EXAMPLES + 1) * 5  # of each distortion, and of the rejected batch
    assert all(source.startswith("data:image/webp;base64,") for source in sources)
    assert all(attributes.get("alt") for tag, attributes in tags.seen if tag == "img")
    marks = [attributes["id"] for _, attributes in tags.seen if "id" in attributes]
    assert len(marks) == len(set(marks))
    inner = {
        (attributes.get("href") or "")[1:]
        for _, attributes in tags.seen
        if (attributes.get("href") or "").startswith("#")
    }
    assert inner <= set(marks)


def test_page_contains_no_path_and_is_reproducible(tmp_path: Path):
    corpus = fake_corpus(tmp_path, batches=1)
    text = page_of(corpus)
    assert str(tmp_path) not in text
    assert "/home/someone" not in text
    assert page_of(corpus) == text


def test_samples_stop_at_the_budget_after_one_of_each_distortion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("distort_pipeline.reports.corpus_page.IMAGE_BYTES", 110_000)
    text = page_of(fake_corpus(tmp_path, batches=3, rejected=(("jpeg", 1),)))
    assert text.count("<img") == 2 * 5
    assert [name for name in ("jpeg 0", "jp2k 0") if f">{name}</a>" in text] == ["jpeg 0", "jp2k 0"]
    assert len(text) < 110_000 * 4 / 3 + 90_000


def test_a_page_of_very_many_batches_lists_the_first_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("distort_pipeline.reports.corpus_page.LISTED", 5)
    monkeypatch.setattr("distort_pipeline.reports.corpus_page.DESCRIBED", 2)
    text = page_of(fake_corpus(tmp_path, batches=8, rejected=tuple(("jp2k", batch) for batch in range(4))))
    assert "The first 2 of 4" in text
    assert "the first 5 are listed" in text
    listed = text[text.index('id="batches"') : text.index('id="provenance"')]
    assert len(re.findall(r'<th scope="row">', listed)) == 5
    assert Tags(text).open == []


def test_samples_are_spread_over_the_corpus_and_rejected_batches_come_early(tmp_path: Path):
    corpus = fake_corpus(tmp_path, batches=9, rejected=(("jpeg", 3),))
    chosen = [batch.name for batch in choose_batches(read_batches(corpus / "reports"))]
    assert chosen == ["jp2k 0", "jpeg 0", "jpeg 3", "jp2k 4", "jpeg 4", "jp2k 8", "jpeg 8"]


def test_the_page_of_a_real_corpus_shows_the_pixels_of_its_samples(damaged: Path):
    page = write_corpus_page(damaged)
    text = page.read_text()
    corpus = open_corpus(damaged)
    sample = next(batch for batch in corpus.batch_records("jpeg-00000") if f'id="sample-{batch.sample}"' in text)
    figure = text[text.index(f'id="sample-{sample.sample}"') :]
    addresses = re.findall(r'src="data:image/webp;base64,([^"]*)"', figure)
    pristine, generated = (decode(base64.b64decode(address))[0][:128, :128] for address in addresses[:2])
    np.testing.assert_array_equal(pristine, corpus[sample.sample].pristine)
    np.testing.assert_array_equal(generated, corpus[sample.sample].distorted)
    assert str(damaged) not in text
    assert write_corpus_page(damaged).read_text() == text


def test_charts_are_valid_svg(tmp_path: Path):
    text = page_of(fake_corpus(tmp_path, rejected=(("jpeg", 1),)))
    charts = [ElementTree.fromstring(chart) for chart in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]
    assert len(charts) == 8  # of each distortion: thresholds, dot plot, histograms twice
    assert all(chart.find("title") is not None and chart.find("desc") is not None for chart in charts)


def test_reports_without_true_distortions_metrics_or_images(tmp_path: Path):
    corpus = fake_corpus(tmp_path, batches=1)
    nulls = {"divergence": None, "psnr": None, "ssim": None, "comparison": "none", "statistics": [], "accepted": None}
    for name in ("batch-0-00000", "batch-1-00000"):
        change(corpus / "reports" / f"{name}.json", lambda report: report.update(nulls))
    (corpus / "reports" / "batch-0-00000.png").unlink()
    text = page_of(corpus)
    assert heading(text).startswith("unknown: 2 of 2 batches are not judged: there is no truth at this severity")
    assert "not judged</span>" in text


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("reports/batch-0-00000.json", lambda report: report.update(version=1), "version 1; this program reads 6"),
        ("reports/batch-0-00000.json", lambda report: report.update(format="other"), "not a distort-pipeline/report"),
        ("reports/batch-0-00000.json", lambda report: report.pop("accepted"), "accepted is missing"),
        ("reports/batch-0-00000.json", lambda report: report["statistics"][0].pop("threshold"), "threshold is missing"),
        ("store.json", lambda report: report.update(version=7), "version 7"),
    ],
)
def test_invalid_documents_are_refused(tmp_path: Path, name: str, edit: Any, message: str):
    corpus = fake_corpus(tmp_path, batches=1)
    change(corpus / name, edit)
    with pytest.raises(PipelineError, match=message):
        write_corpus_page(corpus)
    assert not (corpus / "index.html").exists()


def test_a_folder_that_is_no_corpus_is_refused(tmp_path: Path):
    with pytest.raises(PipelineError, match=r"no store\.json"):
        write_corpus_page(tmp_path)
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(PipelineError, match="is damaged"):
        write_corpus_page(tmp_path)


def test_histograms_are_normalised_before_they_are_compared():
    counts = [1, *range(1, 102), 4]
    single = histogram_chart({"true": counts}, title="t")
    many = histogram_chart({"true": [1000 * count for count in counts]}, title="t")
    assert single == many
    assert histogram_chart({"true": [*counts[:-1], 40]}, title="t") != single  # the overflow bin is drawn
    ElementTree.fromstring(histogram_chart({NASTY: counts, "b": counts}, title=NASTY, log=True))


@pytest.mark.parametrize("counts", [[1] * 101, [0] * 103])
def test_a_histogram_of_another_shape_is_refused(counts: list[int]):
    with pytest.raises(ValueError, match="103 counts"):
        histogram_chart({"true": counts}, title="t")


def test_rejected_dots_differ_in_shape_and_colour():
    chart = ElementTree.fromstring(threshold_chart([0.5, 2.5, 1.0], title="t", batches=range(3)))
    assert len(chart.findall("circle[@class='accepted']")) == 2
    rejected = chart.findall("path[@class='rejected']")
    assert len(rejected) == 1
    assert "--bad" in rejected[0].attrib["style"]
    assert rejected[0].findtext("title") == "batch 1: 2.50 × threshold, rejected"


def test_an_identity_generator_gets_no_good_verdict(tmp_path):
    corpus = fake_corpus(tmp_path)
    for path in (corpus / "reports").glob("*.json"):
        report = json.loads(path.read_text())
        report.update(accepted=True, reasons=[])
        report["against"] |= {"pristine": 0.0}  # nearest to pristine
        path.write_text(json.dumps(report))
    batches = read_batches(corpus / "reports")
    summaries = summaries_of(batches)
    mismatched = [summary.name for summary in summaries if summary.is_mismatched]
    state, sentence = verdict(CorpusMetadata.load(corpus), batches, summaries)
    assert mismatched
    assert state == "unknown"
    assert "mismatched: nearer to another distortion than to the learned one" in sentence
    assert sum("nearer to the pristine images" in caution for caution in findings(corpus)) == len(mismatched)


def model_of(state, objections):
    return {
        "digest": "ab" * 32, "distortion": "jpeg", "external": False,
        "origin": "least-squares fit", "levels": [], "random": False, "grey": False,
        "evaluation": {
            "state": state, "objections": objections, "nearest": "jpeg", "images": 12, "c2st": "bad",
            "c2st_accuracy": 0.81, "c2st_low": 0.74, "c2st_high": 0.88,
        },
    }  # fmt: skip


def test_a_page_is_not_green_where_the_evaluation_of_a_model_is_red(tmp_path: Path):
    corpus = fake_corpus(tmp_path, batches=1)
    change(
        corpus / "store.json", lambda store: store["models"].update(jpeg=model_of("bad", "has a C2ST accuracy of 0.81"))
    )
    text = page_of(corpus)
    evaluated = "in its evaluation jpeg failed: has a C2ST accuracy of 0.81."
    assert heading(text) == f"bad: All 2 batches are accepted; {evaluated}"
    assert "0.810 (0.74 to 0.88)" in text
    change(corpus / "store.json", lambda store: store["models"].update(jpeg=model_of("good", "")))
    assert heading(page_of(corpus)) == "good: All 2 batches are accepted."


def test_tiles_that_share_pixels_are_said_near_the_top(tmp_path: Path):
    corpus = fake_corpus(tmp_path, batches=1)
    change(corpus / "store.json", lambda store: store["overlap"].update(tiles_with_overlap=400, mean_fraction=0.79))
    remark = "400 of 500 tiles share pixels with another tile of their image, 79% of a tile on average"
    text = page_of(corpus)
    assert text.index(remark) < text.index('id="overview"')
    assert any(remark in finding for finding in findings(corpus))
