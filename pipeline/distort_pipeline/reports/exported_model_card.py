"""The README of an exported generator: task, input, output and an example call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distort_pipeline.records import canonical

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


def facts(card: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of an exported model, text by key."""
    return {
        "distortion": card["distortion"],
        "parameters": canonical([level["parameters"] for level in card["levels"]]),
        "weights_digest": card["weights_digest"],
        "noise_channels": str(card["network"]["noise_channels"]),
        "pixel_range": "-1 1",
        "multiple_px": "128",
    }


def exported_card_text(card: Mapping[str, Any], form: str, name: str, *, own_layers: bool) -> str:
    """Return the README of the model of `card` in the file `name`, exported as `form`.

    With `own_layers`, the file contains layer classes of this package.
    """
    channels, levels = card["network"]["noise_channels"], card["levels"]
    multi_level = len(levels) > 1
    listed = f"[x{', s' if multi_level else ''}{', *z' if channels else ''}]"
    severity = (
        f"""
s = np.full((len(x), 1), 1.0, np.float32)  # severity: 0 is the identity, level k of {len(levels)} is k / {len(levels)}
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
        if card["network"].get("image_stats")
        else ""
    )
    imported = "import distort_pipeline.networks.generator  # its layers\n" if own_layers else ""
    contents = "numbers and the names of layers of distort-pipeline" if own_layers else "built-in layers and numbers"
    call = imported + CALLS[form].format(name=name, listed=listed, inputs=listed if channels or multi_level else "x")
    rows = "\n".join(f"| {key} | `{value}` |" for key, value in facts(card).items())
    return f"""# A generator of {card["distortion"]}

Distorts RGB images; trained with distort-pipeline on pairs of pristine and distorted photographs.
JSD_NSS on validation images: {card["figures"]["jsd_nss"]:.4f} bits; identity baseline:
{card["figures"]["jsd_nss_pristine"]:.4f} bits. Batch norms are fused into the weights; computation is float32.

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
