from html.parser import HTMLParser

import numpy as np
import pytest

from distort_pipeline.data.evaluations import (
    EvaluatedModel,
    EvaluationMetadata,
    EvaluationMetrics,
    TrueDistortion,
    plain,
)
from distort_pipeline.errors import PipelineError
from distort_pipeline.metrics.c2st import C2STReport, C2STResult, SeverityTSTR, TSTRResult
from distort_pipeline.metrics.classifier import Accuracy, RankCorrelation
from distort_pipeline.metrics.evaluation import EvalImages, measure, summarise
from distort_pipeline.records import ModelVerdict, to_uint8
from distort_pipeline.reports.evaluation import model_verdict, nearest_text, remarks, render, tables, verdict
from distort_pipeline.reports.evaluation_results import metrics, text_table
from distort_pipeline.reports.pages import EmbeddedImage

NASTY = "<script>alert(1)</script>"
GOOD = ModelVerdict("good", "", "noise", 2)


def scene(seed):
    """A smooth image with edges, 96 px."""
    y, x = np.mgrid[:96, :96]
    waves = 128 + 50 * np.sin((x + 7 * seed) / 9) * np.cos(y / 13) + 30 * (x + y > 90 + seed)
    return to_uint8(np.repeat(waves[..., None], 3, axis=2))


def noise(image, seed, sigma):
    return to_uint8(image + sigma * np.random.default_rng(seed).standard_normal(image.shape))


def coarse(image, step):
    return to_uint8(image // step * step + step / 2)


def evaluation(generated, count=2, columns=("noise", "coarse"), noise_is="noise"):
    """Evaluate noise and coarse quantisation; `generated` is model → (learned, function)."""
    evaluated = []
    for number in range(count):
        pristine = scene(number)
        images = EvalImages(
            pristine,
            true={noise_is: noise(pristine, number, 12), "coarse": coarse(pristine, 32)},
            true_again={noise_is: noise(pristine, 50 + number, 12)},
            generated={name: [function(pristine, 100 + number)] for name, (_, function) in generated.items()},
            generated_again={},
        )
        evaluated.append(
            measure(f"image {number}", images, {name: learned for name, (learned, _) in generated.items()})
        )
    learned = {name: learned for name, (learned, _) in generated.items()}
    return summarise(evaluated, columns, learned, seed=1)


def good_noise(image, seed):
    return noise(image, seed, 12)


def metadata(models):
    return EvaluationMetadata(
        digest="ef" * 32,
        settings={"evaluate": {"draws": 1}},
        models={name: EvaluatedModel("cd" * 32, "fit", "noise", GOOD) for name in models},
        distortions={
            "noise": TrueDistortion("noise", 1, {"sigma": 12}, False),
            "coarse": TrueDistortion("coarse", 1, {}, True),
        },
        images=2,
        too_small=0,
        pairs_digest="ab" * 32,
        manifest_digest="12" * 32,
    )


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.open = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]

    def handle_startendtag(self, tag, _):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_diagonal_dominant_generator_gets_a_good_verdict():
    result = evaluation({"noise": ("noise", good_noise), "coarse": ("coarse", lambda p, _: coarse(p, 32))})
    assert verdict(result)[0] == "good"
    assert verdict(result)[1].startswith("All 2 generators are nearest")
    assert remarks(result) == []


def test_a_single_distortion_is_compared_with_the_identity_baseline():
    outcome = verdict(evaluation({"noise": ("noise", good_noise)}, columns=["noise"]))
    assert outcome == (
        "good",
        "The generator is nearer to its learned distortion than the identity baseline.",
    )


def test_the_papers_table_appears_only_with_distortions_of_the_paper():
    result = evaluation({"noise": ("noise", good_noise)})
    assert "<h3>Paper</h3>" not in render(result, metadata(result.models), {})
    result = evaluation({"noise": ("jpeg", good_noise)}, columns=["jpeg"], noise_is="jpeg")
    page = render(result, metadata(result.models), {})
    assert "<h3>Paper</h3>" in page
    assert "0.2321" in page


def test_the_identity_baseline_is_mismatched():
    result = evaluation({"identity": ("noise", lambda image, _: image)})
    assert result.table["identity"] == result.pristine
    assert verdict(result) == ("bad", "1 of 1 generators is mismatched: identity.")
    assert "no nearer to true noise" in remarks(result)[0]


def test_a_mismatched_generator_is_named_with_both_divergences():
    result = evaluation({"swapped": ("coarse", good_noise)})
    (remark,) = remarks(result)
    assert f"nearer to true noise ({result.table['swapped']['noise']:.4f})" in remark
    assert f"true coarse ({result.diagonal('swapped'):.4f} bits)" in remark


def test_closer_generators_are_of_other_distortions():
    result = evaluation({"far": ("noise", lambda p, s: noise(p, s, 2)), "near": ("noise", good_noise)})
    assert result.diagonal("near") < result.diagonal("far")
    assert result.closer_generators("far") == []
    other = evaluation({"far": ("noise", lambda p, s: noise(p, s, 2)), "near": ("coarse", good_noise)})
    assert other.closer_generators("far") == ["near"]


def test_colour_differences_invisible_to_jsd_nss_appear_in_the_nss_features():
    def grey_noise(image, seed):
        return to_uint8(image + 12 * np.random.default_rng(seed).standard_normal((*image.shape[:2], 1)))

    result = evaluation({"grey": ("noise", grey_noise)})
    assert result.diagonal_dominant("grey")
    assert nearest_text(result, "grey") == "10 of 12; not cb, cr"
    assert metrics(result).models["grey"].nearest_features == 10
    assert "10 of 12; not cb, cr" in render(result, metadata(result.models), {})
    assert nearest_text(evaluation({"noise": ("noise", good_noise)}), "noise") == "all 12"


def test_a_wrong_severity_gets_no_good_verdict():
    result = evaluation({"severe": ("noise", lambda p, s: noise(p, s, 24))})
    assert result.diagonal_dominant("severe")
    state, sentence = verdict(result)
    assert state == "bad"
    assert "but differs from the truth: severe (" in sentence
    assert "strength: PSNR -6" in remarks(result)[0]
    assert model_verdict(result, None, "severe").state == "bad"
    assert metrics(result).models["severe"].accepted == 0


def test_the_page_is_a_single_well_formed_file_without_links_or_scripts():
    result = evaluation({NASTY: ("noise", good_noise), "coarse": ("coarse", lambda p, _: coarse(p, 31))})
    text = render(result, metadata(result.models), {NASTY: EmbeddedImage("data:image/png;base64,AAAA", False)})
    page = Page(text)
    assert "script" not in page.tags
    assert NASTY not in text
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert page.tags.count("svg") == 2 * (2 + 6)  # for each: histograms, and residuals as lines and points
    assert 'content="width=device-width' in text
    assert "prefers-color-scheme: dark" in text
    assert f"{result.diagonal('coarse'):.4f}" in text
    assert text.count('class="learned') == 2 + 2  # the diagonals of both tables


def test_a_single_image_has_no_between_content_baseline():
    result = evaluation({"noise": ("noise", good_noise)}, count=1)
    assert result.noise_floors["noise"].content is None
    assert "between_content" not in plain(metrics(result))["noise_floors"]["noise"]
    assert "–" in render(result, metadata(result.models), {})


def test_tables_mark_the_smallest_and_the_paper_confuses_its_jpeg_with_jp2k():
    paper = tables(evaluation({"noise": ("noise", good_noise)}))["paper"]
    cells = [(name, column) for name, row in paper.rows.items() for column in row]
    diagonal = {(name, name) for name in ("jpeg", "jp2k", "white_noise", "pink_noise")}
    assert {cell for cell in cells if paper.is_least_of_column(*cell)} == diagonal
    assert {cell for cell in cells if paper.is_least_of_row(*cell)} == diagonal - {("jpeg", "jpeg")} | {
        ("jpeg", "jp2k")
    }


def test_lines_for_a_terminal_stand_in_columns():
    lines = text_table(
        metrics(evaluation({"noise": ("noise", good_noise), "a_rather_long_name": ("coarse", good_noise)}))
    )
    assert len({len(line) for line in lines}) == 1
    assert [line.split()[0] for line in lines[1:]] == ["noise", "a_rather_long_name", "pristine"]


@pytest.mark.parametrize("model", ["noise", "coarse"])
def test_metrics_hold_numbers_only(model):
    figures = plain(metrics(evaluation({model: (model, good_noise)})))

    def leaves(value):
        return [leaf for entry in value.values() for leaf in leaves(entry)] if isinstance(value, dict) else [value]

    assert all(isinstance(leaf, int | float) for leaf in leaves(figures))
    assert figures["models"][model]["jsd_nss"] == figures["table"][model][model]


def test_metrics_are_read_as_written_and_damaged_ones_refused(tmp_path):
    figures = metrics(evaluation({"noise": ("noise", good_noise)}))
    figures.save(tmp_path)
    assert plain(EvaluationMetrics.load(tmp_path)) == plain(figures)
    text = (tmp_path / "metrics.json").read_text("utf-8")
    (tmp_path / "metrics.json").write_text(text.replace("jsd_nss_pooled", "jsd_nss_polled"), "utf-8")
    with pytest.raises(PipelineError, match=r"metrics.json is damaged .*jsd_nss_polled.*evaluate again"):
        EvaluationMetrics.load(tmp_path)


def accuracy(share):
    return Accuracy(share, share - 0.1, min(share + 0.1, 1), 8, 256)


@pytest.mark.parametrize(
    ("share", "positive_control", "state", "chip"),
    [
        (0.9, 0.9, "bad", "◆ above the goal"),
        (0.5, 0.9, "good", "● within the goal"),
        (0.5, 0.5, "good", "○ inconclusive"),
    ],
)
def test_the_c2st_is_in_the_verdict_and_on_the_page(share, positive_control, state, chip):
    result = evaluation({NASTY: ("noise", good_noise)})
    confusion = np.array([[60, 4], [4, 60]])
    tstr_result = TSTRResult(("pristine", NASTY), accuracy(0.8), accuracy(0.9), confusion, confusion, (0.85, 0.93))
    c2st = C2STReport(
        {NASTY: C2STResult(accuracy(share), accuracy(0.5), True, accuracy(positive_control))}, tstr_result, None
    )
    assert verdict(result, c2st)[0] == model_verdict(result, c2st, NASTY).state == state
    assert any("C2ST accuracy" in remark for remark in remarks(result, c2st)) == (share == 0.9)
    text = render(result, metadata(result.models), {}, c2st)
    page = Page(text)
    assert NASTY not in text
    assert page.tags.count("svg") == 2 + 6 + 1
    assert chip in text
    assert "TSTR reaches 88.9% of TRTR (95 % interval 85.0% to 93.0% over 8 photographs)" in text
    assert "94 %" in text  # 60 of 64
    figures = metrics(result, c2st)
    assert figures.models[NASTY].c2st_positive_control == positive_control
    assert figures.tstr.meaningful == 1


def test_tstr_severity_regression_is_on_the_page_of_multi_level_generators():
    result = evaluation({NASTY: ("noise", good_noise)})
    tstr, trtr = (RankCorrelation(value, value - 0.1, value + 0.05, 8, 1280) for value in (0.812, 0.84))
    tstr_result = SeverityTSTR({NASTY: tstr}, {NASTY: trtr}, (0.955, 0.98))
    figures = plain(metrics(result, C2STReport({}, None, tstr_result)))["severity_tstr"]
    assert figures == {
        NASTY: {"tstr": 0.812, "trtr": 0.84}, "ratio": 0.966667, "meaningful": 1,
        "ratio_low": 0.955, "ratio_high": 0.98,
    }  # fmt: skip
    c2st_result = C2STResult(accuracy(0.5), accuracy(0.5), True, accuracy(0.9))
    text = render(result, metadata(result.models), {}, C2STReport({NASTY: c2st_result}, None, tstr_result))
    Page(text)
    assert NASTY not in text
    assert (
        "TSTR reaches 96.7% of TRTR (95 % interval 95.5% to 98.0% over 8 photographs); the goal of 95% is reached"
        in text
    )
    assert "<b>0.812</b>" in text
    assert "(0.71 to 0.86)" in text
    assert "Severity regression" not in render(
        result, metadata(result.models), {}, C2STReport({NASTY: c2st_result}, None, None)
    )
