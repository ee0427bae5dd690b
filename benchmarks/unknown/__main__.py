"""Learns the unknown distortions through the product's commands, and judges: `python -m benchmarks.unknown PHOTOS`.

For each distortion: pairs are made, `ingest`, `pairs`, `train`, `evaluate` and `generate` run as a user would type
them, each once and with one setting for all, the generated images of the judging photographs are judged, and one file
is written into benchmarks/unknown/results/; benchmarks/UNKNOWN.md is written from all of them. What is done is not done
again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import machine
from benchmarks.unknown import page, strips
from benchmarks.unknown.distortions import UNKNOWN
from benchmarks.unknown.figures import closeness, full_reference, severity
from benchmarks.unknown.judge import judge, read_baselines, read_generated, read_images, read_pairs
from benchmarks.unknown.make import make, names_of, png_bytes, write_once
from benchmarks.unknown.photos import JUDGE, LEARN, choose
from benchmarks.unknown.pixels import Image
from distort_pipeline.metrics.jsd_nss import nss_histograms

RESULTS = Path(__file__).with_name("results")
OUT = Path("build/unknown")
PAIRS_OPTIONS = ("--distortions=", "--workers", "0")
TRAIN_OPTIONS: tuple[str, ...] = ()  # the product's own defaults, for every distortion alike
EVALUATE_OPTIONS = ("--c2st-steps", "0")  # the judge has classifiers of its own
FEW = 8  # pairs, of those that are held against all of them
GENERATE_OPTIONS = ("--whole-images", "--splits", "train,val,test", "--count", str(JUDGE), "--workers", "0")


@dataclass(frozen=True)
class Command:
    """One command of the product, run in the folder of a distortion, and what it leaves there."""

    words: tuple[str, ...]
    leaves: str


def main() -> None:
    """Run the named distortions, or all, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unknown", description=__doc__)
    parser.add_argument("photos", type=Path, help="folder of pristine photographs")
    parser.add_argument("--out", type=Path, default=OUT, help="what is made on the way (%(default)s)")
    parser.add_argument("--only", help=f"some of {', '.join(UNKNOWN)}, with commas between")
    parser.add_argument("--baselines", action="store_true", help="no training: identity, redraw and controls alone")
    parser.add_argument("--without-adversary", action="store_true", help="the same time at adversarial weight 0")
    parser.add_argument("--memorised", action="store_true", help=f"from {FEW} and from all pairs: scores on both parts")
    parser.add_argument("--no-network", action="store_true", help="one classifier alone, the logistic one: quick")
    args = parser.parse_args()
    names = names_of(args.only, parser.error)
    photos = choose(args.photos)
    for name in names:
        make(UNKNOWN[name], photos, args.out / name)
        step = baselines_of if args.baselines else learn_without_adversary if args.without_adversary else learn
        step = memorised if args.memorised else step
        result = step(name, args.out, network=not args.no_network)
        print(f"{name}: {result['verdict']}", flush=True)
    page.write(RESULTS)


def learn(name: str, out: Path, *, network: bool) -> dict[str, Any]:
    """Learn one distortion, judge what was learned, and return what was written into its result file."""
    folder = out / name
    minutes = run(folder, commands(name))
    figures = {"generated": judge_corpus(folder, "corpus", "generated", network=network)}
    baselines = read_baselines(folder / "judge", read_images(folder / "judge")[0], network=network)
    return keep(name, figures | baselines, minutes)


def learn_without_adversary(name: str, out: Path, *, network: bool) -> dict[str, Any]:
    """Learn one distortion in the same time at adversarial weight 0, and add its judgement to the result file."""
    folder, result = out / name, json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    model = Path("without") / name
    ingest, pairs, train, _, generate = commands(name)
    train = Command((*train.words, "--adversarial-weight", "0", "--out", str(model)), str(model))
    generate = Command((*generate.words, "--models", "without", "--distortions", name, "--out", "mean"), "mean")
    minutes = {"train_without_adversary": run(folder, (ingest, pairs, train, generate))["train"]}
    figures = {"without_adversary": judge_corpus(folder, "mean", "generated_mean", network=network)}
    return keep(name, result["figures"] | figures, result["cpu_minutes"] | minutes, on=result["machine"])


def memorised(name: str, out: Path, *, network: bool) -> dict[str, Any]:  # noqa: ARG001 - judged without classifiers
    """Learn one distortion from few pairs and from all, and add what both score on the photographs of both parts."""
    result = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    figures: dict[str, Any] = {}
    for count in (FEW, LEARN):
        folder = out / f"{name}-{count}" if count < LEARN else out / name
        if count < LEARN:
            copy_some(out / name, folder, count)
        ingest, pairs, train, _, judged = commands(name)
        words = ("generate", "learn/pristine", *GENERATE_OPTIONS[:-3], str(count), *GENERATE_OPTIONS[-2:])
        learned = Command((*words, "--out", "relearned"), "relearned")
        run(folder, (ingest, pairs, train, judged, learned))
        scores = {}
        for part, corpus, source in (("learn", "relearned", folder), ("judge", "corpus", out / name)):
            pristine, true, stems = read_pairs(source / part)
            unpack(folder / corpus, folder / f"generated_{part}", pristine, stems)
            generated = read_generated(folder / f"generated_{part}", stems)
            scores[part] = {
                "jsd": asdict(closeness([nss_histograms(image) for image in true], generated)["d1_1"]),
                "delta_psnr_db": (severity(pristine, full_reference(pristine, true), generated)["psnr_db"] or {})[
                    "delta"
                ],
            }
        figures[str(count)] = scores
    return keep(name, result["figures"] | {"memorised": figures}, result["cpu_minutes"], on=result["machine"])


def copy_some(whole: Path, folder: Path, count: int) -> None:
    """Copy `count` of the pairs to learn from, spread over all, and the photographs to judge on."""
    stems = sorted(path.stem for path in (whole / "learn" / "pristine").iterdir())
    chosen = {stems[index] for index in np.linspace(0, len(stems) - 1, count).round().astype(int)}
    for kind in ("learn/pristine", "learn/distorted", "judge/pristine"):
        for path in sorted((whole / kind).iterdir()):
            if path.stem in chosen or kind.startswith("judge"):
                write_once(folder / kind / path.name, path.read_bytes)


def run(folder: Path, steps: Sequence[Command]) -> dict[str, float]:
    """Run `steps` in `folder`, and return their CPU-minutes."""
    minutes: dict[str, float] = {}
    before: list[tuple[str, ...]] = []
    for command in steps:
        minutes[command.words[0]] = run_once(folder, command, before)
        before.append(command.words)
    return minutes


def judge_corpus(folder: Path, corpus: str, images_folder: str, *, network: bool) -> dict[str, Any]:
    """Judge the `corpus` in `folder` beside the true images; its images and strips of them are written there too."""
    images, stems = read_images(folder / "judge")
    unpack(folder / corpus, folder / images_folder, images.pristine, stems)
    generated = read_generated(folder / images_folder, stems)
    strips.write(folder / f"{images_folder}_strips.png", images.pristine, images.true, generated)
    return judge(images, generated, network=network)


def baselines_of(name: str, out: Path, *, network: bool) -> dict[str, Any]:
    """Judge the baselines of one distortion alone; what was found of a generator before stays in its result file."""
    folder = out / name / "judge"
    figures = read_baselines(folder, read_images(folder)[0], network=network)
    path = RESULTS / f"{name}.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    learned = {kind: found for kind, found in before.get("figures", {}).items() if kind == "generated"}
    return keep(name, learned | figures, before.get("cpu_minutes", {}))


def commands(name: str) -> tuple[Command, ...]:
    """Return the product's commands for one distortion, in order.

    >>> [command.words[0] for command in commands("webp")]
    ['ingest', 'pairs', 'train', 'evaluate', 'generate']
    """
    external = f"{name}=learn/distorted"
    return (
        Command(("ingest", "learn/pristine", "--out", "learn.jsonl"), "learn.jsonl"),
        Command(("pairs", "learn.jsonl", *PAIRS_OPTIONS, "--external-pairs", external), "pairs"),
        Command(("train", "pairs", "--distortion", name, *TRAIN_OPTIONS), f"models/{name}"),
        Command(("evaluate", "pairs", *EVALUATE_OPTIONS), "evaluation"),
        Command(("generate", "judge/pristine", *GENERATE_OPTIONS), "corpus"),
    )


def run_once(folder: Path, command: Command, before: Sequence[tuple[str, ...]]) -> float:
    """Run `command` in `folder` unless it is done, and return the CPU-minutes that it took.

    Unfinished, it runs again: the product's commands go on where they were interrupted. Where it, or one of those that
    ran `before` it, is not what was run last time, its result is deleted first.
    """
    kept, result = folder / "done.json", folder / command.leaves
    done = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    entry, words = done.get(command.leaves), [list(one) for one in (*before, command.words)]
    if entry and entry["words"] == words and result.exists():
        return float(entry["cpu_minutes"])
    if entry and result.is_file():
        result.unlink()
    elif entry:
        shutil.rmtree(result, ignore_errors=True)
    started = _children_seconds()
    subprocess.run([sys.executable, "-m", "distort_pipeline", *command.words], cwd=folder, check=True)
    minutes = (_children_seconds() - started) / 60
    done[command.leaves] = {"words": words, "cpu_minutes": round(minutes, 2)}
    kept.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
    return minutes


def unpack(corpus: Path, folder: Path, pristine: Sequence[Image], stems: Sequence[str]) -> None:
    """Write each sample of `corpus` as a PNG named as the judging photograph whose pixels its pristine image has."""
    from distort_pipeline import open_corpus

    shutil.rmtree(folder, ignore_errors=True)
    stem_of = {_fingerprint(image): stem for image, stem in zip(pristine, stems, strict=True)}
    store = open_corpus(corpus)
    for index in range(len(store)):
        sample = store[index]
        stem = stem_of[_fingerprint(sample.pristine)]
        write_once(folder / f"{stem}.png", partial(png_bytes, sample.distorted))


def keep(
    name: str, figures: dict[str, Any], minutes: dict[str, float], *, on: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Write the result file of one distortion, measured `on` this machine or another, and return what is in it."""
    unknown = UNKNOWN[name]
    result = {
        "name": name,
        "about": (unknown.make.__doc__ or "").split("\n")[0],
        "randomness": unknown.randomness,
        "verdict": page.verdict(figures),
        "cpu_minutes": {step: round(spent, 2) for step, spent in minutes.items()},
        "machine": on or machine(),
        "figures": figures,
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(page.rounded(result), indent=1, ensure_ascii=False)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    return result


def _fingerprint(image: Image) -> str:
    return hashlib.sha256(str(image.shape).encode() + image.tobytes()).hexdigest()


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
