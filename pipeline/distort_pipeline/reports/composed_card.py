"""The model card, for people, of a composed generator: its parts, what each was worth, and how good the whole is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TEXT = """# Generator: {distortion}

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

Limits: it knows one level of one distortion, and photographs like those that it was trained on. All settings are in
`store.json`.
"""


def composed_card_text(card: Mapping[str, Any]) -> str:
    """Return the model card as Markdown."""
    figures = card["figures"]
    stages = [
        f"| {stage['stage']} | {stage['score']:.4f} | {stage['jsd_nss']:.5f} | {stage['features']:.5f} | "
        f"{stage['c2st_accuracy']:.3f} | {stage['delta_psnr_db']:+.2f} dB |"
        for stage in card["learning"]["stages"]
    ]
    return TEXT.format(
        distortion=card["distortion"],
        tiles=card["data"]["train_tiles"],
        parts=", then ".join(part_names(card["network"]["parts"], card["learning"])),
        jsd=figures["jsd_nss"],
        identity=figures["jsd_nss_pristine"],
        delta=figures["delta_psnr_db"],
        digest=card["weights_digest"],
        kept=card["learning"]["kept"],
        steps=card["kept_step"],
        warning=""
        if card["learning"]["better_than_identity"]
        else " **The identity baseline is better than this model.**",
        stages="\n".join(stages),
    )


def part_names(parts: Mapping[str, Any], learning: Mapping[str, Any]) -> list[str]:
    """Return the names of a generator's parts, in the order in which they act."""
    names = []
    if "codec" in parts:
        codec = parts["codec"]
        names.append(f"{codec['name']} at quality {codec['quality']}" + (", a panned frame" if codec["panned"] else ""))
    if parts.get("linear"):
        names += learning.get("parts", [])
    if "body" in parts:
        names.append("a compact network" + (" trained against a discriminator" if parts["body"]["stochastic"] else ""))
    if learning.get("noise"):
        names.append("signal-dependent noise")
    if "jpeg" in parts:
        names.append(f"libjpeg with the files' tables, {parts['jpeg']['subsampling']}")
    return names or ["nothing"]
