"""Writes benchmarks/UNKNOWN.md from results/*.json: `python -m benchmarks.unknown.page`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from benchmarks.unknown.distortions import UNKNOWN

RESULTS = Path(__file__).with_name("results")
PAGE = Path(__file__).parents[1] / "UNKNOWN.md"
GOAL = 0.60  # accuracy of the better classifier: at most this to pass, above it to have noticed the positive control
DIGITS = 4  # of figures in results/*.json

Figures: TypeAlias = Mapping[str, Any]
Verdict = Literal["passed", "failed", "cannot be judged", "not learned yet"]

HEAD = """# Fourteen unknown distortions

Written by `python -m benchmarks.unknown.page` from `unknown/results/*.json`; `make unknown PHOTOS=DIR` measures. Each
distortion is made by real software or from measured figures, learned from 48 whole-image pairs by the product's own
commands with one setting for all, and judged on 24 photographs of other sources. Intervals are 95 % over photographs.

- **JSD_NSS** in bits, to the true images: of what was generated, of the pristine image (identity baseline), of another
  true draw (noise floor; 0 where the distortion is deterministic).
- **C2ST**: accuracy of the better of two classifiers that tell generated from true tiles of photographs they have not
  seen, logistic regression on features and the product's network; chance is 0.5. In brackets the held-out
  cross-entropy of the logistic one in bits, 1 at chance. *Control* is the pristine image plus 0.8 of the true residual
  instead of generated: a distortion is judged only where it is noticed (above {goal:.2f}, interval above 0.5). ¹ The
  logistic one alone, as the identity baseline always has it. *Negative* is another true draw, or labels permuted among
  true tiles where the distortion is deterministic.
- **Passed**: control noticed, and generated at most {goal:.2f}.
"""


def main() -> None:
    """Write the page."""
    write(RESULTS)


def write(results: Path, page: Path = PAGE) -> None:
    """Write `page` from the result files in the folder `results`."""
    figures = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in results.glob("*.json")}
    page.write_text(render([figures[name] for name in UNKNOWN if name in figures]), encoding="utf-8")


def render(results: Iterable[Figures]) -> str:
    """Return the page of `results`, one a distortion."""
    results = list(results)
    passed = sum(result["verdict"] == "passed" for result in results)
    learned = sum("generated" in result["figures"] for result in results)
    count = f"**{passed} of {learned} learned distortions passed** ({len(UNKNOWN)} in all)."
    tables = (_closeness_table, _adversary_table, _memory_table, _feature_table, _severity_table, _use_table)
    sections = [HEAD.format(goal=GOAL), count, *(table(results) for table in tables)]
    return "\n\n".join(section.strip() for section in sections if section) + "\n"


def verdict(figures: Figures) -> Verdict:
    """Return what is said of a distortion, from the figures of its generator and its controls."""
    if "generated" not in figures:
        return "not learned yet"
    if not is_sensitive(figures["weaker"]):
        return "cannot be judged"
    return "passed" if _best(figures["generated"])["accuracy"] <= GOAL else "failed"


def is_sensitive(positive_control: Figures) -> bool:
    """Return whether either classifier tells the positive control from the true images."""
    return any(c2st["accuracy"] > GOAL and c2st["low"] > 0.5 for c2st in positive_control["c2st"].values())


def rounded(value: Any) -> Any:
    """Return `value` with every number in it at DIGITS significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, Mapping):
        return {name: rounded(inner) for name, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list | tuple) else value


def _best(figures: Figures) -> Figures:
    """Return the C2ST of the higher accuracy."""
    return max(figures["c2st"].values(), key=lambda c2st: c2st["accuracy"])


def _closeness_table(results: Iterable[Figures]) -> str:
    lines = [
        "## Distance from the true images",
        "",
        "| distortion | random | JSD_NSS | identity | another draw | C2ST | identity | control | negative | verdict |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for result in results:
        figures = result["figures"]
        negative = figures.get("redraw") or figures["permuted"]
        jsd = [_jsd(figures.get(kind)) for kind in ("generated", "identity", "redraw")]
        c2st = [
            _accuracy_cell(kind_figures)
            for kind_figures in (figures.get("generated"), figures["identity"], figures["weaker"], negative)
        ]
        cells = [f"`{result['name']}`", result["randomness"], *jsd, *c2st, result["verdict"]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _adversary_table(results: Iterable[Figures]) -> str:
    """Return the table of the distortions that were also learned without an adversary; '' without any."""
    compared = [result for result in results if "without_adversary" in result["figures"]]
    lines = [
        "## The adversary",
        "",
        "Beside the default: adversarial weight 0, by which all of the twenty minutes goes to the fits and the mean.",
        "The two runs may be of different machines: steps are counted by the time of the one that trains.",
        "",
        "| distortion | adversary | JSD_NSS | C2ST | Δ PSNR, median | CPU-minutes |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for result in compared:
        for kind, step, name in (("generated", "train", "yes"), ("without_adversary", "train_without_adversary", "no")):
            figures = result["figures"][kind]
            median = figures["severity"]["psnr_db"]["median_abs_delta"]
            cells = [f"`{result['name']}`", name, _jsd(figures), _accuracy_cell(figures), f"{median:.2f}"]
            lines.append(f"| {' | '.join(cells)} | {result['cpu_minutes'][step]:.1f} |")
    return "\n".join(lines) if compared else ""


def _memory_table(results: Iterable[Figures]) -> str:
    """Return the table of scores on training and on judging photographs; '' without any."""
    lines = [
        "## Memory",
        "",
        "Learned from 8 and from 48 pairs by the same command: JSD_NSS and Δ PSNR on the photographs of the pairs and",
        "on the 24 that judge, with their intervals. A generator that remembers its pairs scores better on them.",
        "",
        "| distortion | pairs | JSD_NSS, training | judging | Δ PSNR, training | judging |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    before = len(lines)
    for result in results:
        for count, parts in result["figures"].get("memorised", {}).items():
            learn, judge = parts["learn"], parts["judge"]
            cells = [f"`{result['name']}`", count, _interval(learn["jsd"], ".4f"), _interval(judge["jsd"], ".4f")]
            cells += [_interval(part["delta_psnr_db"], "+.2f") for part in (learn, judge)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > before else ""


def _feature_table(results: Iterable[Figures]) -> str:
    lines = [
        "## NSS features",
        "",
        "The same divergence in bits of all twelve features: the largest of the ten of luma (MSCN and products in four",
        "directions, at two scales), and those of Cb and Cr; in brackets what the identity baseline has of the same.",
        "",
        "| distortion | generated, largest | Cb | Cr | another draw, largest | Cb | Cr |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for result in results:
        figures, cells = result["figures"], [f"`{result['name']}`"]
        of_identity = figures["identity"]["jsd"]
        for kind in ("generated", "redraw"):
            divergences = figures[kind]["jsd"] if kind in figures else {}
            luma = [name for name in divergences if name not in ("cb", "cr")]
            largest = max(luma, key=lambda name: divergences[name]["mean"], default="")
            for name in (largest, "cb", "cr"):
                label = f"`{name}` " if name == largest else ""
                cell = (
                    f"{label}{divergences[name]['mean']:.4f} ({of_identity[name]['mean']:.4f})" if divergences else "–"
                )
                cells.append(cell)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _severity_table(results: Iterable[Figures]) -> str:
    lines = [
        "## Severity",
        "",
        "PSNR and SSIM to the pristine image, generated minus true: mean, median |Δ| of an image, and the standard",
        "deviation over images beside that of the true ones. *Control* is the same of the positive control.",
        "",
        "| distortion | true PSNR, dB | Δ | median \\|Δ\\| | spread (true) | Δ of control | Δ SSIM | of control |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for result in results:
        figures = result["figures"]
        of_control = figures["weaker"]["severity"]
        generated_severity = figures.get("generated", {}).get("severity")
        psnr, ssim = (generated_severity["psnr_db"], generated_severity["ssim"]) if generated_severity else (None, None)
        control_psnr = of_control["psnr_db"]
        cells = [
            f"`{result['name']}`",
            f"{control_psnr['mean_of_true']:.1f}",
            _interval(psnr["delta"], "+.2f") if psnr else "–",
            f"{psnr['median_abs_delta']:.2f}" if psnr else "–",
            f"{psnr['spread']:.2f} ({psnr['spread_of_true']:.2f})"
            if psnr
            else f"({control_psnr['spread_of_true']:.2f})",
            f"{control_psnr['delta']['mean']:+.2f}",
            _interval(ssim["delta"], "+.3f") if ssim else "–",
            f"{of_control['ssim']['delta']['mean']:+.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _use_table(results: Iterable[Figures]) -> str:
    lines = [
        "## What corpora are for",
        "",
        "SRCC on true tiles of a regressor of quality (SSIM from features of the distorted tile alone) that was taught",
        "by generated tiles (TSTR) or by true ones (TRTR), both on other photographs; and SRCC between the SSIM of",
        "generated and true versions of the same tiles. CPU-minutes are those of all the product's commands.",
        "",
        "| distortion | TSTR | TRTR | TSTR of another draw | scores, SRCC | of another draw | CPU-minutes |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for result in results:
        figures = result["figures"]
        generated, redraw, positive_control = (
            figures.get(kind, {}).get("use", {}) for kind in ("generated", "redraw", "weaker")
        )
        minutes = sum(result["cpu_minutes"].values())
        values = [generated.get("tstr_srcc"), positive_control.get("trtr_srcc"), redraw.get("tstr_srcc")]
        values += [generated.get("ssim_srcc"), redraw.get("ssim_srcc")]
        cells = [f"`{result['name']}`", *map(_number, values), f"{minutes:.1f}" if minutes else "–"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _jsd(figures: Figures | None) -> str:
    return _interval(figures["jsd"]["d1_1"], ".4f") if figures else "–"


def _interval(figures: Figures, form: str) -> str:
    return f"{figures['mean']:{form}} ({figures['low']:{form}} to {figures['high']:{form}})"


def _accuracy_cell(figures: Figures | None) -> str:
    if not figures:
        return "–"
    alone = "" if "network" in figures["c2st"] else "¹"
    return f"{_best(figures)['accuracy']:.2f}{alone} ({figures['c2st']['logistic']['cross_entropy_bits']:.2f})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
