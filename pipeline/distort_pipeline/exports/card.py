"""The card of an export, README.md: a YAML head for tools, and a datasheet for people.

The headings are from Gebru et al., "Datasheets for datasets", Communications of the ACM 64(12) 2021.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import yaml

from distort_pipeline.data.conditions import SEVERITY
from distort_pipeline.data.corpus_metadata import CorpusMetadata
from distort_pipeline.exports import ExportFormat, ExportSource
from distort_pipeline.exports.source import Exported, parameters_text
from distort_pipeline.records import canonical


@dataclass
class Contents:
    """Counts of an export's samples, and the location columns of its table."""

    samples: Counter[str] = field(default_factory=Counter)  # by distortion
    splits: Counter[str] = field(default_factory=Counter)
    location_columns: tuple[str, ...] = ()  # columns of paths
    images: set[str] = field(default_factory=set)  # photographs
    tiles: set[int] = field(default_factory=set)
    sizes: set[tuple[int, int]] = field(default_factory=set)  # (height, width) px
    flagged: int = 0  # samples of rejected batches
    date: str | None = None  # of publication, YYYY-MM-DD

    @property
    def count(self) -> int:
        """The number of samples."""
        return self.samples.total()

    def add(self, sample: Exported) -> None:
        """Count a sample."""
        record = sample.record
        self.samples[record.distortion] += 1
        self.splits[record.split] += 1
        self.images.add(record.image)
        self.tiles.add(record.tile)
        self.sizes.add((record.height, record.width))
        self.flagged += not sample.accepted


PAPER = """L.-H. Chen, C. G. Bampis, Z. Li, A. C. Bovik, "Learning to Distort Images Using Generative Adversarial
Networks", IEEE Signal Processing Letters 27, 2020, doi 10.1109/LSP.2020.3040656"""
SOCIAL_IMPACT = """Measures of quality decide which pictures are sent, kept or shown. A measure trained on these images
prefers what the generators and the photographs given have taught it: check it on ratings by people before it decides
for people."""
HUB_SPLITS = {"train": "train", "val": "validation", "test": "test"}  # names in `datasets`
# https://huggingface.co/docs/hub/repositories-licenses, in 2026; without licences of single models, and `unknown`
HUB_LICENCES = {
    "afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear",
    "bsl-1.0", "c-uda", "cc", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0",
    "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0",
    "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0",
    "cdla-sharing-1.0", "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1", "eupl-1.2", "gfdl", "gpl",
    "gpl-2.0", "gpl-3.0", "isc", "lgpl", "lgpl-2.1", "lgpl-3.0", "lgpl-lr", "lppl-1.3c", "mit", "mpl-2.0", "ms-pl",
    "ncsa", "odbl", "odc-by", "ofl-1.1", "openmdw-1.0", "osl-3.0", "pddl", "postgresql", "unlicense", "wtfpl", "zlib",
}  # fmt: skip
SPDX_NAMES = {
    **{"odbl-1.0": "odbl", "odc-by-1.0": "odc-by", "pddl-1.0": "pddl", "cc0": "cc0-1.0"},
    **{"gfdl-1.1": "gfdl", "gfdl-1.2": "gfdl", "gfdl-1.3": "gfdl", "lgpllr": "lgpl-lr", "c-uda-1.0": "c-uda"},
}
SIZES_SHOWN = 3
SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


def dataset_card(
    name: str, exporter: ExportFormat, source: ExportSource, contents: Contents, licences: Mapping[str, int]
) -> str:
    """Return the card of an export in the format `name`; `licences` are counts of its photographs."""
    metadata = source.corpus.metadata
    true = " `true` images are the true distortion of the same tile, made again." if source.with_truth else ""
    published = f" Published on {contents.date}." if contents.date else ""
    return f"""---
{yaml.safe_dump(_head(exporter, source, contents, licences), sort_keys=False, allow_unicode=True)}---

# {title(contents)}

Photographs, and the same photographs distorted by trained generators. An export, as `{name}`, of the corpus
`{metadata.digest}` with {metadata.counts.samples} samples.

## {_scores_heading(source)}

{_scores(exporter, source)}

## Opening it

{exporter.about.strip()}

`{exporter.table}` has a row for each sample, `attributions.csv` licence and source of each photograph, and
`croissant.json` a description for machines. `sha256sum --check SHA256SUMS` finds changed files.

## Motivation

Training and testing of measures of image quality, with many distorted images of known origin. The method:
{PAPER}.

## Composition

{contents.count} samples of {len(contents.tiles)} pristine tiles from {len(contents.images)} photographs;
{_sizes(contents)}. Images are 8-bit sRGB PNG, without loss.

| distortion | samples here | learned distortion | made of | SHA-256 of the generator's weights |
|---|---|---|---|---|
{_models(metadata, contents)}

{_severity(metadata)}

Splits: {", ".join(f"{count} {split}" for split, count in sorted(contents.splits.items()))}. All
samples of a photograph are in the same split.

{_flagged(contents)}

## Collection process

Tiles were cut from the photographs at recorded offsets (`y`, `x`, px) and distorted by the generators, with the random
seed of each sample in `seed`. No people were observed. Photographs can show people; see their sources.

## Preprocessing and labelling

Photographs were converted to 8-bit sRGB first. Labels ending in `_higher_better` or `_lower_better` were computed
from the pixels or given by people, as said above; an empty cell is a missing value, such as the PSNR of two identical
images or an MS-SSIM below 176 px. `clipped` is the fraction of values newly clipped to 0 or 255, `parameters` are the
parameters of the learned true distortion, and `accepted` is whether the batch of a sample passed its check.{true}

## Uses

For pretraining, for ranking, for stress tests of quality measures. Not for claims about human perception, unless people
rated the samples. A generator only approximates the distortion that it learned: `JSD_NSS` in the corpus's report is its
distance. The content is as varied as the photographs, {len(contents.images)} here.

{SOCIAL_IMPACT}

## Distribution

The photographs, by licence; the distorted images are adaptations of the photographs, under the same terms:

{_licences(licences)}

The licence and source of each photograph are in `attributions.csv`.{published}

## Maintenance

The same corpus, exported with the same settings by the same version, gives the same files. Nothing here is changed
later: a new version has another digest.
"""


def hub_splits(patterns: Mapping[str, str]) -> dict[str, object]:
    """Return the fields of a card's head with the files of each split, for Hugging Face's tools."""
    files = [{"split": HUB_SPLITS[split], "path": pattern} for split, pattern in patterns.items()]
    return {"configs": [{"config_name": "default", "data_files": files}]}


def title(contents: Contents) -> str:
    """Return the title of an export."""
    return f"{contents.count} distorted images of {len(contents.tiles)} pristine ones"


def licence_id(licences: Mapping[str, int]) -> str:
    """Return the identifier of a single licence on the Hugging Face Hub, or `other`.

    >>> licence_id({"CC0-1.0": 3}), licence_id({"CC BY 4.0": 1}), licence_id({"ODbL-1.0": 1})
    ('cc0-1.0', 'cc-by-4.0', 'odbl')
    >>> licence_id({"CC0-1.0": 3, "MIT": 1}), licence_id({"unknown": 2}), licence_id({"Unsplash License": 1})
    ('other', 'other', 'other')
    """
    identifiers = {_hub_id(licence) for licence in licences}
    return identifiers.pop() if len(identifiers) == 1 else "other"


def _hub_id(licence: str) -> str:
    spelled = "-".join(licence.lower().split()).removesuffix("-only").removesuffix("-or-later")
    identifier = SPDX_NAMES.get(spelled, spelled)
    return identifier if identifier in HUB_LICENCES else "other"


def _head(
    exporter: ExportFormat, source: ExportSource, contents: Contents, licences: Mapping[str, int]
) -> dict[str, object]:
    """Return the fields of a dataset card on the Hugging Face Hub."""
    size = next((category for limit, category in SIZES if contents.count < limit), "10M<n<100M")
    return {
        "pretty_name": title(contents),
        "license": licence_id(licences),
        "annotations_creators": ["machine-generated", *_raters(source)],
        "source_datasets": ["original"],
        "task_categories": ["image-to-image"],
        "size_categories": [size],
        "tags": ["image-quality-assessment", "image-distortion", "synthetic"],
        **exporter.card_head(sorted(contents.splits)),
    }


def _raters(source: ExportSource) -> list[str]:
    return ["crowdsourced"] if any(store.of_people for store in source.added) else []


def _scores_heading(source: ExportSource) -> str:
    return "Human scores" if any(store.of_people for store in source.added) else "There are no human scores here"


def _scores(exporter: ExportFormat, source: ExportSource) -> str:
    """Return the origin of the scores, a sentence on each line."""
    lines = []
    for store in source.added:
        if store.of_people:
            lines.append(f"Ratings by people: mean, standard deviation and count are in {_columns(store.columns)}.")
    if not lines:
        lines.append("Nobody has rated these images.")
    lines.append("All other labels are computed from the pixels and are no opinion scores.")
    if exporter.scored:
        lines.append(f"The score that this format carries is {source.score.description}.")
    return "\n".join(lines)


def _columns(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _sizes(contents: Contents) -> str:
    sizes = sorted(contents.sizes)
    shown = ", ".join(f"{width} × {height} px" for height, width in sizes[:SIZES_SHOWN])
    return shown if len(sizes) <= SIZES_SHOWN else f"{shown} and {len(sizes) - SIZES_SHOWN} other sizes"


def _models(metadata: CorpusMetadata, contents: Contents) -> str:
    """Return a table row for each distortion, with all models of a composite."""
    rows = []
    for name, count in contents.samples.items():
        condition = next(item for item in metadata.conditions.values() if item.distortion == name)
        models = [metadata.models[model] for model in condition.models]
        learned = ", then ".join(
            "; ".join(parameters_text(canonical(level.parameters)) for level in model.levels) for model in models
        )
        made = "; ".join(model.origin for model in models)
        digests = ", ".join(f"`{model.digest}`" for model in models)
        rows.append(f"| {name} | {count} | {learned} | {made} | {digests} |")
    return "\n".join(rows)


def _severity(metadata: CorpusMetadata) -> str:
    """Return the meaning of `level` and `severity`, if samples differ in severity."""
    conditions = list(metadata.conditions.values())
    distortions = {condition.distortion for condition in conditions}
    fixed = all(condition.request.of == SEVERITY and not condition.request.varies for condition in conditions)
    if fixed and len(conditions) == len(distortions):
        return "Each distortion has a single severity."
    return """`severity` is the position of a sample on the severity scale of its distortion: 0 is the unchanged image,
1 the end of the scale. It belongs to the parameter, so corpora of other generators may be joined on it; a distortion
known from external pairs alone has a scale of its own. Levels count from 1, the mildest. `parameters` are the
parameters of the true distortion at this severity. Equal severities of two distortions do not mean equal quality."""


def _flagged(contents: Contents) -> str:
    if not contents.flagged:
        return "All batches of the samples are within the acceptance thresholds of their generators."
    return (
        f"**{contents.flagged} samples are of rejected batches**, beyond the acceptance thresholds of their "
        "generators: `accepted` is False."
    )


def _licences(licences: Mapping[str, int]) -> str:
    return "\n".join(f"- {licence}: {count}" for licence, count in sorted(licences.items()))
