"""The README.md of a model, in its folder and beside an exported model."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from distort_pipeline.models.card import COMPOSED, LearnedLevel, ModelCard
from distort_pipeline.records import canonical

GREY = "Trained on grey images only: the distortion of colour was not learned."

TEXT = """# Generator: {distortion}

Applies a learned approximation of **{distortion}** {levels} to photographs.

| | |
|---|---|
{facts}

{by_level}Limits: trained for {scope} only, on photographs of the training set.{grey} All settings are in `store.json`.
"""


def readme(card: ModelCard) -> str:
    """Return the model card as Markdown, with the YAML head of a model on the Hugging Face Hub."""
    text = _composed_readme(card) if card.network.kind == COMPOSED else _network_readme(card)
    return f"---\n{yaml.safe_dump(_head(card), sort_keys=False, allow_unicode=True)}---\n\n{text}"


def _head(card: ModelCard) -> dict[str, object]:
    """Return the fields of the head; no licence, as the photographs learned from may set one."""
    figures, data = card.figures, card.data
    values = {
        "jsd_nss": figures.jsd_nss,
        "jsd_nss_identity": figures.jsd_nss_pristine,
        "delta_psnr_db": figures.delta_psnr_db,
    }
    result = {
        "task": {"type": "image-to-image"},
        "dataset": {"name": f"{data.val_images} validation images", "type": "pairs", "revision": data.pairs_digest},
        "metrics": [{"type": name, "value": round(value, 5)} for name, value in values.items()],
    }
    return {
        "library_name": "distort-pipeline",
        "pipeline_tag": "image-to-image",
        "tags": ["image-distortion", "image-quality-assessment", card.distortion],
        "model-index": [{"name": f"{card.distortion}-{card.weights_digest[:12]}", "results": [result]}],
    }


def _network_readme(card: ModelCard) -> str:
    figures, network, data, train = card.figures, card.network, card.data, card.settings.train
    noise = f"{network.noise_channels} noise channels a scale" if network.noise_channels else "deterministic"
    crops = f"{train['batch_size']} crops of {train['crop_px']} px"
    trained = f"{card.steps} steps of {crops}, {train['precision']}, on {card.device}"
    facts = {
        "network": f"{_unet(card)}, {noise}",
        **_initialization(card),
        **({"trained": trained} if card.steps else {}),
        "data": f"{data.train_tiles} training tiles, {data.val_images} validation images",
        **({"photographs": data.photographs} if data.photographs else {}),
        "pair store": f"digest {data.pairs_digest}",
        "JSD_NSS to the true distortion, mean over validation images": f"{figures.jsd_nss:.5f} bits",
        "JSD_NSS to the true distortion, pooled over validation images": f"{figures.jsd_nss_pooled:.5f} bits",
        "identity baseline (pristine images to the true distortion)": f"{figures.jsd_nss_pristine:.5f} bits",
        "delta PSNR (PSNR against pristine, generated minus true)": f"{figures.delta_psnr_db:+.2f} dB",
        "digest of the weights": f"SHA-256 {card.weights_digest}",
    }
    levels, several = card.levels, card.is_multi_level
    return TEXT.format(
        distortion=card.distortion,
        levels=f"at {len(levels)} levels, and between them" if several else f"({_parameters(levels[0])})",
        facts="\n".join(f"| {name} | {value} |" for name, value in facts.items()),
        by_level=_by_level(levels) if several else "",
        grey=f" {GREY}" if data.grey else "",
        scope=f"{len(levels)} levels of one distortion" if several else "a single level of one distortion",
    )


BY_LEVEL = """| level | parameters | severity | JSD_NSS, bits | identity baseline | delta PSNR |
|---|---|---|---|---|---|
{lines}

Severity is a property of the parameter, on the scale of the distortion; without one, level k of n lies at k/n. 0 is the
identity, and the generator takes any severity up to the last level's. JSD_NSS and delta PSNR in the table above are
means over the levels.

"""


def _by_level(levels: Sequence[LearnedLevel]) -> str:
    lines = [
        f"| {level.level} | {_parameters(level)} | {level.severity:g} | {level.figures.jsd_nss:.5f} | "
        f"{level.figures.jsd_nss_pristine:.5f} | {level.figures.delta_psnr_db:+.2f} dB |"
        for level in levels
    ]
    return BY_LEVEL.format(lines="\n".join(lines))


def _parameters(level: LearnedLevel) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in level.parameters.items()) or "external pairs"


def _unet(card: ModelCard) -> str:
    """Return the description of the U-Net, or the reason for its absence."""
    if card.network.base_filters:
        return f"U-Net, {card.network.base_filters} base filters"
    if card.steps:
        return "no U-Net: no step of the adversarial training validated better than the initialization"
    return "no U-Net and no adversarial training: least-squares fits to the pairs only"


def _initialization(card: ModelCard) -> dict[str, str]:
    """Return the facts about initialization and the selected checkpoint."""
    network, facts = card.network, {}
    if card.settings.init_from:
        facts["initialization"] = f"a trained model, digest of the weights {card.settings.init_from}"
    elif network.codec_prior != "none":
        facts["coefficient curves"] = (
            f"of {network.codec_prior}, fitted to the training tiles before the adversarial training; "
            f"explain {card.explained[network.codec_prior]:.0%} of the squared residual on held-out images"
        )
    if network.noise_pyramid and not card.settings.init_from:
        facts["noise pyramid"] = "fitted to the training tiles before the adversarial training"
    if card.kept_step != card.steps:
        facts["weights"] = f"of training step {card.kept_step}, the best in validation"
    return facts


COMPOSED_TEXT = """# Generator: {distortion}

Learned from {tiles} training tiles of external pairs, composed of small models: {parts}.

| | |
|---|---|
| JSD_NSS to the true distortion, mean over validation images | {jsd:.5f} bits |
| the identity baseline | {identity:.5f} bits |
| PSNR to pristine, generated minus true | {delta:+.2f} dB |
| digest of the weights | SHA-256 {digest} |

Kept: {kept}; adversarial steps kept: {steps}.{warning} What each stage came to on held-out training images (the score
weighs JSD_NSS, twelve NSS features, a linear C2ST and delta PSNR; the identity scores about 4):

| stage | score | JSD_NSS | features | C2ST | delta PSNR |
|---|---|---|---|---|---|
{stages}

{by_level}Limits: it knows {scope}, and photographs like those that it was trained on.{recorded} All settings are in
`store.json`.
"""


def _composed_readme(card: ModelCard) -> str:
    figures, several = card.figures, card.is_multi_level
    stages, kept, worse = [], [], False
    for level, learning in zip(card.levels, card.learning, strict=True):
        name = f"level {level.level}: " if several else ""
        kept.append(name + learning.kept)
        worse = worse or not learning.better_than_identity
        stages += [
            f"| {name}{row.stage} | {row.scores.score:.4f} | {row.scores.jsd_nss:.5f} | {row.scores.features:.5f} | "
            f"{row.scores.c2st_accuracy:.3f} | {row.scores.delta_psnr_db:+.2f} dB |"
            for row in learning.stages
        ]
    return COMPOSED_TEXT.format(
        distortion=card.distortion,
        tiles=card.data.train_tiles,
        parts=card.parts,
        jsd=figures.jsd_nss,
        identity=figures.jsd_nss_pristine,
        delta=figures.delta_psnr_db,
        digest=card.weights_digest,
        kept="; ".join(kept),
        steps=card.kept_step,
        warning=" **The identity baseline is better than this model.**" if worse else "",
        stages="\n".join(stages),
        by_level=_by_level(card.levels) if several else "",
        recorded=RECORDED if any("overlays" in parts for parts in card.network.parts or ()) else "",
        scope=f"{len(card.levels)} levels of one distortion" if several else "one level of one distortion",
    )


RECORDED = " Its overlays are as various as the pairs, and hold traces of the distorted photographs."
CALLS = {
    "keras": """import keras

generator = keras.models.load_model("{name}", compile=False)
y = generator({inputs}, training=False)""",
    "saved_model": """import tensorflow as tf

generator = tf.saved_model.load("{name}")
y = generator.serve({inputs})""",
    "onnx": """import onnxruntime

generator = onnxruntime.InferenceSession("{name}")
(y,) = generator.run(None, dict(zip([x.name for x in generator.get_inputs()], {listed})))""",
}


def facts(card: ModelCard) -> dict[str, str]:
    """Return the metadata of an exported model, text by key."""
    return {
        "distortion": card.distortion,
        "parameters": canonical([level.parameters for level in card.levels]),
        "weights_digest": card.weights_digest,
        "noise_channels": str(card.network.noise_channels),
        "pixel_range": "-1 1",
        "multiple_px": "128",
    }


def exported_readme(card: ModelCard, form: str, name: str, *, own_layers: bool) -> str:
    """Return the README of the model of `card` in the file `name`, exported as `form`.

    With `own_layers`, the file contains layer classes of this package.
    """
    channels, levels, multi_level = card.network.noise_channels, card.levels, card.is_multi_level
    listed = f"[x{', s' if multi_level else ''}{', *z' if channels else ''}]"
    severity = (
        f"""
s = np.full((len(x), 1), 1.0, np.float32)  # 0 is the identity, k / {len(levels)} level k of {len(levels)}
"""
        if multi_level
        else ""
    )
    noise = (
        f"""
z = [np.random.standard_normal((len(x), x.shape[1] >> k, x.shape[2] >> k, {channels})).astype(np.float32)
     for k in range(6, -1, -1)]  # noise at seven scales, coarsest first; each draw gives another distortion
"""
        if channels
        else ""
    )
    image_stats = (
        """

Quantisation depends on statistics of the complete input, as in the learned codec: a tile alone is distorted more or
less than the same tile within its image."""
        if card.network.image_stats
        else ""
    )
    imported = "import distort_pipeline.networks.generator  # its layers\n" if own_layers else ""
    contents = "numbers and the names of layers of distort-pipeline" if own_layers else "built-in layers and numbers"
    call = imported + CALLS[form].format(name=name, listed=listed, inputs=listed if channels or multi_level else "x")
    rows = "\n".join(f"| {key} | `{value}` |" for key, value in facts(card).items())
    return f"""# A generator of {card.distortion}

Distorts RGB images; trained with distort-pipeline on pairs of pristine and distorted photographs.
JSD_NSS on validation images: {card.figures.jsd_nss:.4f} bits; identity baseline:
{card.figures.jsd_nss_pristine:.4f} bits. Batch norms are fused into the weights; computation is float32.

| | |
|---|---|
{rows}

Input: x, (N, H, W, 3) float32 in [-1, 1], sides multiples of 128. Output: x + residual(x) of the same shape, not
clipped. Pad smaller images by reflection at the bottom and right only, and crop afterwards: padding at the top or
left would shift the 8 x 8 grid of JPEG blocks.{image_stats}

```python
import numpy as np

x = image[None].astype(np.float32) / 127.5 - 1  # image: (H, W, 3) uint8
{severity}{noise}
{call}
distorted = np.clip(np.rint((np.asarray(y)[0] + 1) * 127.5), 0, 255).astype(np.uint8)
```

The file contains {contents} only; opening the file runs no custom code.
"""


EXPORTED_PARTS_TEXT = """# The parts of a generator of {distortion}

Learned by distort-pipeline from pairs of pristine and distorted photographs, composed of small models that act in this
order: {parts}. JSD_NSS on validation images: {jsd:.4f} bits; identity baseline: {identity:.4f} bits.

    base = filters(tone(x))                        x: (H, W, 3), sRGB in 8-bit levels
    y    = last(base + network(base, x, n, z) + n) n: signal-dependent noise, z: white noise and latents of the image

{folders}| file | contents |
|---|---|
| `generator.json` | the parts in order, their settings{last} |
| `parts.safetensors` | kernels, curves and noise, float32, named part.field as in distort-pipeline's `networks/` |
{network}
distort-pipeline itself runs the generator from its model folder: `distort-pipeline generate --models FOLDER`.
"""


def exported_parts_readme(card: ModelCard, name: str) -> str:
    """Return the README of an exported composed generator, whose network, if it has one, is in the file `name`."""
    described = [name for parts in card.network.parts or () for name in parts]
    inputs = "base, pristine, noise, latents, positions"
    network = f"| `{name}` | the network: {inputs} → residual in units of 127.5 levels |\n"
    return EXPORTED_PARTS_TEXT.format(
        distortion=card.distortion,
        parts=card.parts,
        folders="Each level has a folder; a severity between two weights their changes.\n\n"
        if card.is_multi_level
        else "",
        jsd=card.figures.jsd_nss,
        identity=card.figures.jsd_nss_pristine,
        last="; the last stage is the codec there" if {"jpeg", "codec"} & set(described) else "",
        network=network if "body" in described else "",
    )
