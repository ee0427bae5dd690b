"""The card of an export, README.md: a YAML head for tools, and the headings of a datasheet for people.

The headings are those of Gebru et al., "Datasheets for datasets", Communications of the ACM 64(12) 2021.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from distort_pipeline.exports import ExportFormat, ExportSource
from distort_pipeline.exports.contents import Contents
from distort_pipeline.exports.source import parameters_text
from distort_pipeline.planning.conditions import SEVERITY
from distort_pipeline.records import canonical

PAPER = """L.-H. Chen, C. G. Bampis, Z. Li, A. C. Bovik, "Learning to Distort Images Using Generative Adversarial
Networks", IEEE Signal Processing Letters 27, 2020, doi 10.1109/LSP.2020.3040656"""
HUB_SPLITS = {"train": "train", "val": "validation", "test": "test"}  # as `datasets` calls them
SIZES_SHOWN = 3
SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


def dataset_card(
    name: str,
    exporter: ExportFormat,
    source: ExportSource,
    contents: Contents,
    licences: Mapping[str, int],
) -> str:
    """Return the card of an export in the format `name`; `licences` counts its photographs."""
    metadata = source.corpus.metadata
    return f"""---
{yaml.safe_dump(_head(exporter, contents, licences), sort_keys=False, allow_unicode=True)}---

# {title(contents)}

Photographs, and the same photographs distorted by trained generators. An export, as `{name}`, of the corpus
`{metadata["digest"]}`, which has {metadata["counts"]["samples"]} samples.

## {_who_scored(source)}

{_scores(exporter, source)}

## Opening it

{exporter.about.strip()}

`{exporter.table}` has a row for each sample, `attributions.csv` licence and origin of each photograph, `croissant.json`
says the same to machines, and `sha256sum --check SHA256SUMS` tells whether the files are still what they were.

## Motivation

Made to train and to test measures of image quality, with many distorted images of known origin. The method:
{PAPER}.

## Composition

{contents.count} samples of {len(contents.tiles)} pristine tiles from {len(contents.images)} photographs;
{_sizes(contents)}. Images are 8-bit sRGB PNG, without loss.

| distortion | samples here | what its generator learned | steps | SHA-256 of the generator's weights |
|---|---|---|---|---|
{_models(metadata, contents)}

{_severity(metadata)}

Splits: {", ".join(f"{count} {split}" for split, count in sorted(contents.splits.items()))}. A split is that of the
photograph: one photograph never stands in two splits.

{_flagged(contents)}

## Collection process

Tiles were cut from the photographs at recorded offsets (`y`, `x`, px) and distorted by the generators, with the random
seed of each sample in `seed`. Nobody was asked or observed. Photographs can show people; see their sources.

## Preprocessing and labelling

Photographs were turned into 8-bit sRGB before. Labels that end in `_higher_better` or `_lower_better` were computed
from the pixels or given by people, as said above; an empty cell means that there is none, as with the PSNR of two
identical images or an MS-SSIM below 176 px. `clipped` is the fraction of values that newly stand at 0 or 255,
`parameters` name the true distortion that the generator was to come near, `within_bounds` whether the batch of a
sample passed its check.

## Uses

For pretraining, for ranking, for stress tests of quality measures. Not for claims about what people see, unless people
were asked. A generator is not the algorithm that it learned: `JSD_NSS` in the corpus's report says how near it comes.
Photographs are as few or as many, and as varied, as those that were given to it: {len(contents.images)} here.

## Distribution

The photographs, by licence; the distorted images are adaptations of them and under the same terms:

{_licences(licences)}

Which photograph is under which, and where it comes from, is in `attributions.csv`.

## Maintenance

The same corpus, exported with the same settings by the same version, gives the same files. Nothing here is changed
later: what is made anew has another digest.
"""


def hub_splits(patterns: Mapping[str, str]) -> dict[str, object]:
    """Return the head of a card that tells Hugging Face's tools which files make which split."""
    named = [{"split": HUB_SPLITS[split], "path": pattern} for split, pattern in patterns.items()]
    return {"configs": [{"config_name": "default", "data_files": named}]}


def title(contents: Contents) -> str:
    """Return what an export is called, for people."""
    return f"{contents.count} distorted images of {len(contents.tiles)} pristine ones"


def licence_id(licences: Mapping[str, int]) -> str:
    """Return the one licence in lower case, as cards have it, or `other` for several or an unknown one.

    >>> licence_id({"CC0-1.0": 3}), licence_id({"CC0-1.0": 3, "MIT": 1}), licence_id({"unknown": 2})
    ('cc0-1.0', 'other', 'other')
    """
    only = next(iter(licences)) if len(licences) == 1 else "unknown"
    return "other" if only == "unknown" else only.lower()


def _head(exporter: ExportFormat, contents: Contents, licences: Mapping[str, int]) -> dict[str, Any]:
    size = next((words for most, words in SIZES if contents.count < most), "10M<n<100M")
    return {
        "pretty_name": title(contents),
        "license": licence_id(licences),
        "size_categories": [size],
        "tags": ["image-quality-assessment", "image-distortion", "synthetic"],
        **exporter.card_head(sorted(contents.splits)),
    }


def _who_scored(source: ExportSource) -> str:
    return "Human scores" if any(store.of_people for store in source.added) else "There are no human scores here"


def _scores(exporter: ExportFormat, source: ExportSource) -> str:
    """Return who said what of the images, one sentence a line."""
    lines = []
    for store in source.added:
        if store.of_people:
            lines.append(f"People were asked: mean, standard deviation and count are in {_columns(store.columns)}.")
    if not lines:
        lines.append("Nobody has looked at these images to rate them.")
    lines.append("Every other label is computed from the pixels, and none of those is an opinion score.")
    if exporter.scored:
        lines.append(f"The score that this format carries is {source.score.words}.")
    return "\n".join(lines)


def _columns(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _sizes(contents: Contents) -> str:
    sizes = sorted(contents.sizes)
    shown = ", ".join(f"{width} × {height} px" for height, width in sizes[:SIZES_SHOWN])
    return shown if len(sizes) <= SIZES_SHOWN else f"{shown} and {len(sizes) - SIZES_SHOWN} other sizes"


def _models(metadata: Mapping[str, Any], contents: Contents) -> str:
    """Return a row for each distortion: of a mix, with all its models."""
    rows = []
    for name, count in contents.samples.items():
        condition = next(one for one in metadata["conditions"].values() if one["distortion"] == name)
        models = [metadata["models"][model] for model in condition["models"]]
        learned = ", then ".join(
            "; ".join(parameters_text(canonical(level["parameters"])) for level in model["levels"]) for model in models
        )
        steps = ", ".join(str(model["steps"]) for model in models)
        digests = ", ".join(f"`{model['digest']}`" for model in models)
        rows.append(f"| {name} | {count} | {learned} | {steps} | {digests} |")
    return "\n".join(rows)


def _severity(metadata: Mapping[str, Any]) -> str:
    """Return what `level` and `severity` of a sample mean, where there is more than one."""
    told = list(metadata["conditions"].values())
    of_targets = {one["request"]["of"] for one in told} - {SEVERITY}
    one_each = all(one["request"]["first"] == one["request"]["last"] for one in told) and len(told) == len(
        {one["distortion"] for one in told}
    )
    if one_each and not of_targets:
        return "Each distortion comes at one strength."
    return """`severity` is the rank of a sample on the scale of its distortion: 0 is the untouched image, 1 the
strongest level that the generator learned. Levels count from 1, the weakest. `parameters` are what the true distortion
takes there. One severity of two distortions does not mean one quality."""


def _flagged(contents: Contents) -> str:
    if not contents.flagged:
        return "All batches that they come from lie within the bounds of their generators."
    return (
        f"**{contents.flagged} samples come from batches that are out of the bounds of their generators**; "
        "`within_bounds` is False for them."
    )


def _licences(licences: Mapping[str, int]) -> str:
    return "\n".join(f"- {licence}: {count}" for licence, count in sorted(licences.items()))
