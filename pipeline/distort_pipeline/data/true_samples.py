"""The true distortion of a corpus's samples, made again from their records.

True distortions are of whole images, so the images are needed: a manifest with the digest in the corpus, and codecs of
the versions there. Noise is drawn from the sample's seed: another draw than the generated one, the same every time.

No algorithm makes an external distortion. Its truth is known for the validation images of the pair store: the partner.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from distort_pipeline.data.corpus_metadata import ConditionMetadata, CorpusMetadata, ModelMetadata
from distort_pipeline.data.manifests import Manifest, read_manifest
from distort_pipeline.data.pairs import PairStore, open_pairs
from distort_pipeline.data.sources import read_ingested
from distort_pipeline.distortions import apply, codec_versions
from distort_pipeline.distortions.severity_scale import EXACTLY
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import Image, ImageRecord, SampleRecord, derive_seed, make_rng

IMAGES_IN_MEMORY = 4  # truly distorted: consecutive samples are of one image
Step = tuple[str, str, int]  # distortion, JSON of its parameters, seed


@dataclass(frozen=True)
class TrueSamples:
    """Makes the true distortions of the samples of a corpus."""

    metadata: CorpusMetadata
    root: Path  # of the images
    images: dict[str, ImageRecord]  # by id
    pairs: PairStore | None = None  # with the validation pairs of external distortions

    @classmethod
    def open(cls, metadata: CorpusMetadata, manifest_path: Path, pairs_path: Path | None = None) -> TrueSamples:
        """Return the true samples of a corpus.

        PipelineError for another manifest, pairs of other images, or other codecs than its own.
        """
        manifest: Manifest = read_manifest(manifest_path)
        if manifest.digest != metadata.manifest_digest:
            raise PipelineError(f"{manifest_path} is not the manifest of the corpus: its digest differs")
        used = codec_versions(model.distortion for model in metadata.models.values() if not model.external)
        others = {name: version for name, version in used.items() if metadata.codecs.get(name) != version}
        if others:
            named = ", ".join(f"{name} {metadata.codecs.get(name)} (here {other})" for name, other in others.items())
            raise PipelineError(f"the corpus was made with {named}: its true distortions need the same versions")
        pairs = None if pairs_path is None else open_pairs(pairs_path)
        if pairs is not None and pairs.metadata["manifest_digest"] != manifest.digest:
            raise PipelineError(f"{pairs_path} is not of the images of the corpus: the digest of its manifest differs")
        return cls(metadata, manifest.root, {image.id: image for image in manifest.records}, pairs)

    def true(self, record: SampleRecord, condition: ConditionMetadata) -> Image:
        """Return the true distortion of a sample; PipelineError without one, or if its image changed since ingest."""
        model = self.metadata.models[condition.models[0]]
        if model.external and len(condition.models) == 1:
            return self._partner(record, model)
        image = _distorted(self.root, self.images[record.image], self._steps(record, condition))
        return image[record.y : record.y + record.height, record.x : record.x + record.width].copy()

    def _partner(self, record: SampleRecord, model: ModelMetadata) -> Image:
        """Return the tile of a sample from the partner of its image, a validation image of the pair store."""
        if self.pairs is None:
            raise PipelineError(
                f"sample {record.sample} has no true distortion without the pairs of {model.distortion}: name their "
                "store, --pairs or open_corpus(path, pairs='pairs')"
            )
        level = next((each.level for each in model.levels if abs(each.severity - record.severity) < EXACTLY), None)
        key = (record.image, model.distortion, level)
        pair = next((p for p in self.pairs.records("val") if (p.image, p.distortion, p.level) == key), None)
        if pair is None:
            raise PipelineError(
                f"sample {record.sample} has no true distortion: at severity {record.severity:g} of "
                f"{model.distortion}, {record.image} is no validation image of {self.pairs.folder}; choose those with "
                "--select split=val"
            )
        y, x = record.y - pair.y, record.x - pair.x  # pairs that were moved onto each other have a smaller extent
        if min(y, x) < 0 or y + record.height > pair.height or x + record.width > pair.width:
            raise PipelineError(f"sample {record.sample} is outside the part of {record.image} that its partner shows")
        partner = self.pairs.val_image(pair.image, pair.distortion, pair.level)
        return partner[y : y + record.height, x : x + record.width].copy()

    def _steps(self, record: SampleRecord, condition: ConditionMetadata) -> tuple[Step, ...]:
        """Return the distortions of a sample in the order of application."""
        values = json.loads(record.parameters)
        steps = []
        for index, name in enumerate(condition.models):
            model = self.metadata.models[name]
            own = values
            if len(condition.models) > 1:  # named with the models of a composite
                own = {key.removeprefix(f"{name} "): at for key, at in values.items() if key.startswith(f"{name} ")}
            if model.external or not own:
                raise PipelineError(
                    f"sample {record.sample} has no true distortion: nothing can make that of {name} at severity "
                    f"{record.severity:g}"
                )
            steps.append((model.distortion, json.dumps(own), derive_seed(record.seed, "true", index)))
        return tuple(steps)


@lru_cache(maxsize=IMAGES_IN_MEMORY)
def _distorted(root: Path, image: ImageRecord, steps: tuple[Step, ...]) -> Image:
    distorted = read_ingested(root, image)
    for distortion, parameters, seed in steps:
        distorted = apply(distortion, distorted, json.loads(parameters), make_rng(seed)).image
    return distorted
