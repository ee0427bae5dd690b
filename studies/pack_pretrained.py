"""Packs trained generators as the package's pretrained generators, with weights in half precision.

    python -m studies.pack_pretrained MODELS --data "84 photographs of Debian's wallpaper and education packages"

For each model folder in MODELS: the card, the validation histograms for acceptance thresholds, and the weights as
float16 (a residual of 30 8-bit levels changes by 0.01). No images, since training images may not be redistributable.
An existing pretrained generator is replaced.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import click
import numpy as np

from distort_pipeline.commands.inputs import PRETRAINED
from distort_pipeline.data.builds import StagedStore
from distort_pipeline.data.files import arrays_digest
from distort_pipeline.models.card import read_card
from distort_pipeline.models.store import HISTOGRAMS, WEIGHTS, model_folders, publish_model, read_arrays, write_arrays
from distort_pipeline.records import digest

HALF = np.float16
# kept in float32: in half precision a quantiser step of 67 would be 66.9, and its multiples wrong
SINGLE = ("/log_steps_", "/log_shares", "/log_offsets_")


def pack(folder: Path, out: Path, data: str) -> int:
    """Pack the model `folder` as `out` and return the size of its weights in bytes."""
    card = read_card(folder)
    arrays, _ = read_arrays(folder / WEIGHTS)
    weights = {
        name: array if any(pattern in name for pattern in SINGLE) else array.astype(HALF)
        for name, array in arrays.items()
    }
    if any(not np.isfinite(array).all() for array in weights.values()):
        raise click.ClickException(f"{folder}: a weight is too large for half precision")
    card = dataclasses.replace(
        card,
        data=dataclasses.replace(card.data, photographs=data),
        weights_digest=arrays_digest(weights),
        weights_precision="float16",
    )
    shutil.rmtree(out, ignore_errors=True)
    build = StagedStore(out, digest({"packed": card.weights_digest, "data": data}))
    with build.writing() as work:
        write_arrays(work / WEIGHTS, weights)
        shutil.copyfile(folder / HISTOGRAMS, work / HISTOGRAMS)
        publish_model(build, card)
    return (out / WEIGHTS).stat().st_size


@click.command()
@click.argument("models", type=click.Path(path_type=Path, exists=True))
@click.option("--data", required=True, help="Training photographs and their licences.")
def main(models: Path, data: str) -> None:
    """Pack every finished model in MODELS."""
    for name, folder in model_folders(models).items():
        size = pack(folder, PRETRAINED / name, data)
        click.echo(f"{name}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
