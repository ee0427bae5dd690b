"""The model card: network, data, training, JSD_NSS, acceptance thresholds and limits, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

GREY = "Trained on grey images only: the distortion of colour was not learned."

TEXT = """# Generator: {distortion}

Applies a learned approximation of **{distortion}** {levels} to photographs.

| | |
|---|---|
{facts}

{by_level}A batch of generated tiles is rejected if its divergence exceeds the acceptance threshold: the 99 % quantile
over bootstrapped batches of validation tiles, in bits, and at least 0.002, the difference between sets of photographs:

| {level_column}tiles in the batch | paired with true tiles | against the pooled true histogram |
|{level_rule}---|---|---|
{thresholds}

Limits: trained for {scope} only, on photographs of the training set.{grey} All settings are in `store.json`.
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
        **_initialization(card),
        **({"trained": trained} if card["steps"] else {}),
        "data": f"{data['train_tiles']} training tiles, {data['val_images']} validation images",
        **({"photographs": data["photographs"]} if "photographs" in data else {}),
        "pair store": f"digest {data['pairs_digest']}",
        "JSD_NSS to the true distortion, mean over validation images": f"{figures['jsd_nss']:.5f} bits",
        "JSD_NSS to the true distortion, pooled over validation images": f"{figures['jsd_nss_pooled']:.5f} bits",
        "identity baseline (pristine images to the true distortion)": f"{figures['jsd_nss_pristine']:.5f} bits",
        "delta PSNR (PSNR against pristine, generated minus true)": f"{figures['delta_psnr_db']:+.2f} dB",
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
        thresholds="\n".join(line for level in levels for line in _threshold_lines(level, several=several)),
        grey=f" {GREY}" if data.get("grey") else "",
        scope=f"{len(levels)} levels of one distortion" if several else "a single level of one distortion",
    )


BY_LEVEL = """| level | parameters | severity | JSD_NSS, bits | identity baseline | delta PSNR |
|---|---|---|---|---|---|
{lines}

Severity is the input of the generator: 0 is the identity, and severities between two levels interpolate on the
severity scale of the distortion. JSD_NSS and delta PSNR in the table above are means over the levels.

"""


def _by_level(levels: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        f"| {level['level']} | {_parameters(level)} | {level['severity']:g} | {level['figures']['jsd_nss']:.5f} | "
        f"{level['figures']['jsd_nss_pristine']:.5f} | {level['figures']['delta_psnr_db']:+.2f} dB |"
        for level in levels
    ]
    return BY_LEVEL.format(lines="\n".join(lines))


def _threshold_lines(level: Mapping[str, Any], *, several: bool) -> list[str]:
    paired, unpaired = level["thresholds_bits"]["paired"], level["thresholds_bits"]["unpaired"]
    first = f"| {level['level']} " if several else ""
    return [f"{first}| {size} | {paired[size]:.5f} | {unpaired[size]:.5f} |" for size in paired]


def _parameters(level: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in level["parameters"].items()) or "external pairs"


def _unet(card: Mapping[str, Any]) -> str:
    """Return the description of the U-Net, or the reason for its absence."""
    if card["network"]["base_filters"]:
        return f"U-Net, {card['network']['base_filters']} base filters"
    if card["steps"]:
        return "no U-Net: no step of the adversarial training validated better than the initialization"
    return "no U-Net and no adversarial training: least-squares fits to the pairs only"


def _initialization(card: Mapping[str, Any]) -> dict[str, str]:
    """Return the facts about initialization and the selected checkpoint."""
    network, facts = card["network"], {}
    if card["settings"]["init_from"]:
        facts["initialization"] = f"a trained model, digest of the weights {card['settings']['init_from']}"
    elif network["codec_prior"] != "none":
        facts["coefficient curves"] = (
            f"of {network['codec_prior']}, fitted to the training tiles before the adversarial training; "
            f"explain {card['explained'][network['codec_prior']]:.0%} of the squared residual on held-out images"
        )
    if network["noise_pyramid"] and not card["settings"]["init_from"]:
        facts["noise pyramid"] = "fitted to the training tiles before the adversarial training"
    if card["kept_step"] != card["steps"]:
        facts["weights"] = f"of training step {card['kept_step']}, the best in validation"
    return facts
