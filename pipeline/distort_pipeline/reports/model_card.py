"""The model card for people: what the generator is, what it was made of, how good it is, what it is not for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TEXT = """# Generator: {distortion}

Learned to distort photographs as **{distortion}** does {levels}.

| | |
|---|---|
{facts}

{by_level}A batch of generated tiles is rejected when its divergence exceeds the 99 % quantile of
bootstrapped batches of validation tiles, in bits (never less than 0.002, which other photographs alone differ by):

| {level_column}tiles in the batch | paired with true tiles | against the pooled true histogram |
|{level_rule}---|---|---|
{thresholds}

Limits: it knows {knows}, and photographs like those it was trained on. All settings are in
`store.json`.
"""


def model_card(card: Mapping[str, Any]) -> str:
    """Return the model card as Markdown."""
    figures, network, data = card["figures"], card["network"], card["data"]
    train = card["settings"]["train"]
    noise = f"{network['noise_channels']} noise channels a scale" if network["noise_channels"] else "deterministic"
    crops = f"{train['batch_size']} crops of {train['crop_px']} px"
    trained = f"{card['steps']} steps of {crops}, {train['precision']}, on {card['device']}"
    facts = {
        "network": f"{_unet(card)}, {noise}",
        **_start(card),
        **({"trained": trained} if card["steps"] else {}),
        "data": f"{data['train_tiles']} training tiles, {data['val_images']} validation images",
        **({"photographs": data["photographs"]} if "photographs" in data else {}),
        "pair store": f"digest {data['pairs_digest']}",
        "JSD_NSS to the true distortion, mean over validation images": f"{figures['jsd_nss']:.5f} bits",
        "the same, pooled": f"{figures['jsd_nss_pooled']:.5f} bits",
        "the pristine images to the true distortion": f"{figures['jsd_nss_pristine']:.5f} bits",
        "strength: PSNR against pristine, generated minus true": f"{figures['delta_psnr_db']:+.2f} dB",
        "digest of the weights": f"SHA-256 {card['weights_digest']}",
    }
    levels = card["levels"]
    several = len(levels) > 1
    return TEXT.format(
        distortion=card["distortion"],
        levels=f"at {len(levels)} levels, and between them" if several else f"({_parameters(levels[0])})",
        facts="\n".join(f"| {name} | {value} |" for name, value in facts.items()),
        by_level=_by_level(levels) if several else "",
        level_column="level | " if several else "",
        level_rule="---|" if several else "",
        thresholds="\n".join(line for one in levels for line in _threshold_lines(one, several=several)),
        knows=f"{len(levels)} levels of one distortion" if several else "one level of one distortion",
    )


BY_LEVEL = """| level | parameters | severity | JSD_NSS, bits | of the pristine images | PSNR, generated minus true |
|---|---|---|---|---|---|
{lines}

Severity is what it is asked for: 0 leaves the image alone, and between two levels the step from one to the other is
taken on the scale of the distortion. JSD_NSS and strength in the table above are means over the levels.

"""


def _by_level(levels: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        f"| {one['level']} | {_parameters(one)} | {one['severity']:g} | {one['figures']['jsd_nss']:.5f} | "
        f"{one['figures']['jsd_nss_pristine']:.5f} | {one['figures']['delta_psnr_db']:+.2f} dB |"
        for one in levels
    ]
    return BY_LEVEL.format(lines="\n".join(lines))


def _threshold_lines(level: Mapping[str, Any], *, several: bool) -> list[str]:
    paired, unpaired = level["thresholds_bits"]["paired"], level["thresholds_bits"]["unpaired"]
    first = f"| {level['level']} " if several else ""
    return [f"{first}| {size} | {paired[size]:.5f} | {unpaired[size]:.5f} |" for size in paired]


def _parameters(level: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in level["parameters"].items()) or "brought pairs"


def _unet(card: Mapping[str, Any]) -> str:
    """Return the words for the U-Net, or for that there is none."""
    if card["network"]["base_filters"]:
        return f"U-Net, {card['network']['base_filters']} base filters"
    if card["steps"]:
        return "no U-Net, as no step of the adversarial training validated better than the start"
    return "no U-Net, as it was not trained: this is what least squares say of the pairs"


def _start(card: Mapping[str, Any]) -> dict[str, str]:
    """Return what the card says of where the adversarial training started, and where it was best."""
    network, found = card["network"], {}
    if card["settings"]["init_from"]:
        found["start"] = f"a trained model, digest of the weights {card['settings']['init_from']}"
    elif network["codec_prior"] != "none":
        found["response curves"] = (
            f"of {network['codec_prior']}, fitted to the training tiles before the adversarial training; "
            f"they explain {card['explained'][network['codec_prior']]:.0%} of the squared difference on images held out"
        )
    if network["noise_pyramid"] and not card["settings"]["init_from"]:
        found["noise pyramid"] = "fitted to the training tiles before the adversarial training"
    if card["kept_step"] != card["steps"]:
        found["weights"] = f"of step {card['kept_step']}, which validated best"
    return found
