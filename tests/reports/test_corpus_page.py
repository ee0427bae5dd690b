from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from distort_pipeline.errors import PipelineError
from distort_pipeline.reports.charts import drift_chart, histogram_chart
from distort_pipeline.reports.corpus_page import cautions, is_astray, read_batches, summaries_of, verdict, write_page
from distort_pipeline.reports.strips import amplified_residual, png_bytes, strip

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
NASTY = "<script>alert(1)</script>"
SAMPLES = 256


def products(picture: np.ndarray) -> list[int]:
    """103 counts of the products of diagonal neighbours; near enough to the real statistic to look like it."""
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) - 128
    mean = cv2.GaussianBlur(luma, (7, 7), 7 / 6)
    spread = np.sqrt(np.maximum(cv2.GaussianBlur(luma * luma, (7, 7), 7 / 6) - mean * mean, 0))
    normal = (luma - mean) / (spread + 1)
    edges = np.concatenate(([-np.inf], np.linspace(-2, 2, 102), [np.inf]))
    return [int(count) for count in np.histogram(normal[:-1, :-1] * normal[1:, 1:], edges)[0]]


def jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def fake_corpus(
    folder: Path,
    *,
    distortions: tuple[str, ...] = ("jpeg", "jp2k"),
    batches: int = 4,
    out: tuple[tuple[str, int], ...] = (),
    tile_px: int = 64,
    rows: int = 2,
    licence: str = "CC0-1.0",
) -> Path:
    """Write what the page reads: as "true" a JPEG, as "generated" the same slightly blurred. `out` is flagged."""
    reports = folder / "reports"
    reports.mkdir(parents=True)
    pictures = [cv2.imread(str(path))[:, :, ::-1] for path in sorted(SAMPLE.glob("*.png"))]
    for place, distortion in enumerate(distortions):
        for batch in range(batches):
            lines, counts = [], {"pristine": [0] * 103, "true": [0] * 103, "generated": [0] * 103}
            for row in range(rows):
                whole = pictures[(batch * rows + row) % len(pictures)]
                pristine = np.ascontiguousarray(whole[64 : 64 + tile_px, 64 : 64 + tile_px])
                true = jpeg(pristine, 12 - 4 * place)
                generated = cv2.GaussianBlur(true, (3, 3), 0.35 + 0.1 * place)
                residuals = [amplified_residual(pristine, other) for other in (generated, true)]
                lines.append([pristine, generated, true, *residuals])
                for name, picture in zip(counts, (pristine, true, generated), strict=True):
                    counts[name] = [a + b for a, b in zip(counts[name], products(picture), strict=True)]
            flagged = (distortion, batch) in out
            jsd = 0.031 + 0.004 * batch if flagged else 0.009 + 0.001 * ((batch * 7) % 5)
            report = {
                "format": "distort-pipeline/report", "version": 1, "distortion": distortion, "batch": batch,
                "samples": SAMPLES, "tiles": SAMPLES, "pictures": 20, "tile_px": tile_px, "level": 1,
                "parameters": {"quality": 12} if place == 0 else {"ratio": 150}, "model": "ab" * 32,
                "precision": "float32",
                "paired": {"jsd_bits": jsd, "jsd_nats": jsd * 0.693, "samples": 64, "pictures": 8, "bound_bits": 0.02},
                "unpaired": {"jsd_bits": jsd + 0.01, "jsd_nats": 0.02, "bound_bits": 0.04},
                "judged_by": "paired", "within_bounds": not flagged,
                "reasons": [f"JSD_NSS {jsd:.4f} bits is above the bound of 0.0200"] if flagged else [],
                "floors": {"sampling_bits": 0.0009, "content_bits": 0.002},
                "against": {"pristine": 0.077, **{name: jsd if name == distortion else 0.08 for name in distortions}},
                "psnr": {"mean": 27.31, "std": 2.2, "min": 21.0, "max": 33.0, "true_mean": 27.52},
                "ssim": {"mean": 0.801, "std": 0.05, "min": 0.6, "max": 0.91, "true_mean": 0.805},
                "clipped_fraction": 0.0012, "duplicates": 0, "histograms": counts,
            }  # fmt: skip
            name = f"batch-{place}-{batch:05d}"  # the page takes names from inside, whatever the file is called
            (reports / f"{name}.json").write_text(json.dumps(report))
            columns = ("pristine", "generated", "true", "residual of generated, ×4", "residual of true, ×4")
            (reports / f"{name}.png").write_bytes(png_bytes(strip(lines, columns)))
    total = batches * len(distortions)
    store = {
        "format": "distort-pipeline/corpus", "version": 1, "digest": "cd" * 32,
        "settings": {"generate": {"count": SAMPLES * total, "seed": 0, "tile_px": tile_px, "place": "/home/someone"}},
        "counts": {"samples": SAMPLES * total, "tiles": 500, "pictures": 20, "batches": total, "flagged": len(out)},
        "overlap": {"mean_fraction": 0.4, "tiles_with_overlap": 480},
        "models": {name: {"digest": "ef" * 32, "steps": 300, "parameters": {"quality": 12}} for name in distortions},
        "licences": {licence: 9, "BSD-2-clause": 11},
        "packages": {"tensorflow": "2.21.0", "numpy": "2.3.1"}, "codecs": {"openjpeg": "2.5.4"},
        "manifest_digest": "01" * 32,
    }  # fmt: skip
    (folder / "store.json").write_text(json.dumps(store))
    return folder


def change(path: Path, edit: Any) -> None:
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


def heading(page: str) -> str:
    found = re.search(r'<div class="verdict (\w+)">\s*<strong>(.*?)</strong>', page)
    assert found is not None
    return f"{found[1]}: {found[2]}"


class Tags(HTMLParser):
    """Every tag with its attributes, and whether each that was opened was closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_verdict_when_all_is_well(tmp_path: Path):
    page = write_page(fake_corpus(tmp_path))
    assert page == tmp_path / "index.html"
    text = page.read_text()
    assert heading(text) == "good: All 8 batches lie within their bounds."
    assert "Flagged batches" not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "reports", "store.json"]


def test_verdict_names_what_is_out_and_shows_it_first(tmp_path: Path):
    text = write_page(fake_corpus(tmp_path, out=(("jpeg", 1), ("jpeg", 3)))).read_text()
    assert heading(text) == "bad: 2 of 8 batches are out of bounds: jpeg 1, jpeg 3."
    assert "jpeg: 2 of 4 batches out; JSD_NSS 0.0250 bits on average, bound 0.0200" in text
    every = text[text.index('id="batches"') :]
    names = re.findall(r'<th scope="row">(?:<a [^>]*>)?(\w+ \d)', every)
    assert names[:3] == ["jpeg 1", "jpeg 3", "jp2k 0"]
    assert "JSD_NSS 0.0350 bits is above the bound of 0.0200" in text


def test_verdict_when_everything_is_flagged(tmp_path: Path):
    out = tuple((name, batch) for name in ("jpeg", "jp2k") for batch in range(4))
    text = write_page(fake_corpus(tmp_path, out=out)).read_text()
    assert heading(text) == "bad: All 8 batches are out of bounds."
    examples = text[text.index('id="strips"') : text.index('id="against"')]
    assert examples.count("<img") == 2  # each distortion is seen at once, flagged or not
    assert "jp2k 0: 0.0310 bits, bound 0.0200, flagged." in examples
    assert text.count("<img") == 8


def test_verdict_without_all_reports_is_not_good(tmp_path: Path):
    corpus = fake_corpus(tmp_path, batches=1)
    (corpus / "reports" / "batch-1-00000.json").unlink()
    text = write_page(corpus).read_text()
    assert heading(text) == "unknown: The only batch lies within its bounds. 1 more has no report."
    assert "its reports 1: they do not belong together" in text
    (corpus / "reports" / "batch-0-00000.json").unlink()
    assert heading(write_page(corpus).read_text()).startswith("unknown: No batch has a report")


def test_a_distortion_that_resembles_another_is_remarked(tmp_path: Path):
    corpus = fake_corpus(tmp_path, batches=1)
    change(corpus / "reports" / "batch-0-00000.json", lambda report: report["against"].update(jp2k=0.004))
    assert "Generated jpeg is nearer to true jp2k (0.0040 bits) than to true jpeg" in write_page(corpus).read_text()


def test_names_are_text_wherever_they_stand(tmp_path: Path):
    corpus = fake_corpus(tmp_path, distortions=("jpeg", NASTY), batches=2, out=((NASTY, 1),), licence=NASTY)
    change(
        corpus / "reports" / "batch-0-00000.json",
        lambda report: report.update(reasons=[NASTY], parameters={NASTY: NASTY}),
    )
    text = write_page(corpus).read_text()
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 20
    assert not [tag for tag, _ in Tags(text).seen if tag == "script"]


def test_page_is_whole_in_itself_and_well_nested(tmp_path: Path):
    text = write_page(fake_corpus(tmp_path, out=(("jpeg", 1),))).read_text()
    tags = Tags(text)
    assert tags.open == []
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    assert "url(" not in text
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in tags.seen}
    sources = [attributes["src"] or "" for _, attributes in tags.seen if "src" in attributes]
    assert len(sources) == 5  # two of each distortion, and the flagged one
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(attributes.get("alt") for tag, attributes in tags.seen if tag == "img")
    marks = [attributes["id"] for _, attributes in tags.seen if "id" in attributes]
    assert len(marks) == len(set(marks))
    inner = {
        (attributes.get("href") or "")[1:]
        for _, attributes in tags.seen
        if (attributes.get("href") or "").startswith("#")
    }
    assert inner <= set(marks)
    assert "This page carries 5 of 8 strips" in text


def test_page_tells_no_place_and_does_not_change(tmp_path: Path):
    corpus = fake_corpus(tmp_path, batches=1)
    text = write_page(corpus).read_text()
    assert str(tmp_path) not in text
    assert "/home/someone" not in text
    assert write_page(corpus).read_text() == text


def test_many_large_strips_do_not_swell_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("distort_pipeline.reports.corpus_page.STRIP_BYTES", 100_000)
    corpus = fake_corpus(tmp_path, batches=3, out=(("jpeg", 1),))
    text = write_page(corpus).read_text()
    assert len(text) < 100_000 * 4 / 3 + 60_000
    assert "First rows only" in text


def test_charts_are_valid_svg(tmp_path: Path):
    text = write_page(fake_corpus(tmp_path, out=(("jpeg", 1),))).read_text()
    charts = [ElementTree.fromstring(chart) for chart in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]
    assert len(charts) == 6  # of each distortion: drift, histograms twice
    assert all(chart.find("title") is not None and chart.find("desc") is not None for chart in charts)


def test_missing_optional_keys_are_no_reason_to_fail(tmp_path: Path):
    corpus = fake_corpus(tmp_path, batches=1)
    (corpus / "store.json").write_text(json.dumps({"format": "distort-pipeline/corpus", "version": 1}))
    path = corpus / "reports" / "batch-0-00000.json"
    path.with_suffix(".png").unlink()
    needed = ("format", "version", "distortion", "batch", "samples", "judged_by", "unpaired", "within_bounds")
    report = {key: value for key, value in json.loads(path.read_text()).items() if key in needed}
    path.write_text(json.dumps({**report, "judged_by": "unpaired"}))
    nulls = {"paired": None, "psnr": None, "ssim": None, "judged_by": "unpaired"}
    change(corpus / "reports" / "batch-1-00000.json", lambda report: report.update(nulls))
    change(corpus / "reports" / "batch-1-00000.json", lambda report: report["histograms"].update(true=None))
    text = write_page(corpus).read_text()
    assert heading(text) == "good: All 2 batches lie within their bounds."
    assert "0.0190" in text  # the unpaired divergence, and not the paired one


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("reports/batch-0-00000.json", lambda one: one.update(version=2), "version 2; this program reads 1"),
        ("reports/batch-0-00000.json", lambda one: one.update(format="other"), "not a distort-pipeline/report"),
        ("reports/batch-0-00000.json", lambda one: one.pop("within_bounds"), "lacks within_bounds"),
        ("reports/batch-0-00000.json", lambda one: one.update(paired=None), "that it was judged by"),
        ("store.json", lambda one: one.update(version=7), "version 7"),
    ],
)
def test_what_is_not_understood_is_said(tmp_path: Path, name: str, edit: Any, message: str):
    corpus = fake_corpus(tmp_path, batches=1)
    change(corpus / name, edit)
    with pytest.raises(PipelineError, match=message):
        write_page(corpus)
    assert not (corpus / "index.html").exists()


def test_a_folder_that_is_no_corpus_is_refused(tmp_path: Path):
    with pytest.raises(PipelineError, match=r"no store\.json"):
        write_page(tmp_path)
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(PipelineError, match="not JSON"):
        write_page(tmp_path)


def test_histograms_are_normalised_before_they_are_compared():
    counts = [1, *range(1, 102), 4]
    one = histogram_chart({"true": counts}, title="t")
    many = histogram_chart({"true": [1000 * count for count in counts]}, title="t")
    assert one == many
    assert histogram_chart({"true": [*counts[:-1], 40]}, title="t") != one  # the overflow bin is drawn
    ElementTree.fromstring(histogram_chart({NASTY: counts, "b": counts}, title=NASTY, log=True))


@pytest.mark.parametrize("counts", [[1] * 101, [0] * 103])
def test_a_histogram_of_another_shape_is_refused(counts: list[int]):
    with pytest.raises(ValueError, match="103 counts"):
        histogram_chart({"true": counts}, title="t")


def test_flagged_dots_differ_in_shape_and_colour():
    chart = ElementTree.fromstring(drift_chart([0.01, 0.05, 0.01], [0.02, 0.02, 0.02], title="drift"))
    assert len(chart.findall("circle[@class='within']")) == 2
    flagged = chart.findall("path[@class='flagged']")
    assert len(flagged) == 1
    assert "--bad" in flagged[0].attrib["style"]
    assert flagged[0].findtext("title") == "batch 1: 0.0500 bits, out of bounds"
    judged = ElementTree.fromstring(drift_chart([0.01, 0.01], [0.02, 0.02], title="drift", flagged=[True, False]))
    assert len(judged.findall("path[@class='flagged']")) == 1  # what the report says, not the number alone
    with pytest.raises(ValueError, match="as many bounds"):
        drift_chart([0.1], [], title="drift")


def test_a_generator_that_does_nothing_gets_no_good_verdict(tmp_path):
    corpus = fake_corpus(tmp_path)
    for path in (corpus / "reports").glob("*.json"):
        report = json.loads(path.read_text())
        report.update(within_bounds=True, reasons=[])
        report["against"] |= {"pristine": 0.0}  # nearer to the untouched tiles than to anything else
        path.write_text(json.dumps(report))
    batches = read_batches(corpus / "reports")
    astray = [one["name"] for one in summaries_of(batches) if is_astray(one)]
    state, words = verdict(batches, len(batches), astray)
    assert astray
    assert state == "unknown"
    assert "nearer to something else than to what was learned" in words
    assert len([said for said in cautions(corpus) if "nearer to the pristine pictures" in said]) == len(astray)
