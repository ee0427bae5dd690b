"""Trains the paper's network and the product's on one GPU, in minutes, by JAX alone: benchmarks/GPU.md.

    python studies/gpu/run.py pack PHOTOS PACK              here: tiles of the four and of three unknown distortions
    python studies/gpu/run.py train PACK OUT --minutes 9    there: trains, validates, writes figures and weights
    python studies/gpu/run.py page OUT                      here again: writes benchmarks/GPU.md

`train` needs JAX, SciPy, Keras and Pillow: no network, no TensorFlow, no OpenCV. The wheels of Keras and Pillow travel
with the pack:

    pip download --only-binary=:all: --dest PACK/wheels keras pillow
    pip install --no-deps PACK/wheels/*.whl

It takes what time it is given, each training an equal share of what is left, and may be stopped and run again: finished
trainings are kept. `--small` is the same on a CPU in a minute or two. All that comes back is in OUT: figures.json,
curves.tsv, generated.npz and weights.npz, the compact networks; the paper's U-Net of 42 million weights stays there.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "pipeline")]
os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np  # noqa: E402 - the packages of this repository are found first
from numpy.typing import NDArray  # noqa: E402
from scipy.ndimage import correlate1d  # noqa: E402
from scipy.special import rel_entr  # noqa: E402

CODECS, NOISES = ("jpeg", "jp2k"), ("white_noise", "pink_noise")  # noises are drawn there: they do not compress
UNKNOWN = ("camera", "denoised", "film_grain")
DISTORTIONS = (*CODECS, *NOISES, *UNKNOWN)
RANDOM = (*NOISES, *UNKNOWN)
NETWORKS = ("paper", "compact")
TILE_PX, TILES_EACH = 256, 2
HELD_EVERY = 6  # photographs that validate
SHOWN = 6  # generated tiles that come back of each training
SEED = 0
PAGE = ROOT / "benchmarks" / "GPU.md"
Tiles = NDArray[np.uint8]  # (N, TILE_PX, TILE_PX, 3)


@dataclass(frozen=True)
class Setting:
    """Sizes of the paper's setting, or small ones for a CPU."""

    filters: int = 64
    batch: int = 16
    noise_channels: int = 3
    validations: int = 8
    mean_share: float = 0.3  # of the compact network's time
    precision: str = "mixed_bfloat16"


SMALL = Setting(filters=4, batch=2, validations=1, precision="float32")


# --- pack ------------------------------------------------------------------------------------------------------------


def pack(photos: Path, folder: Path) -> None:
    """Write tiles of the learning photographs, pristine and under each distortion, at most 64 MiB in all."""
    from benchmarks.unknown.distortions import UNKNOWN as MAKERS
    from benchmarks.unknown.make import make
    from benchmarks.unknown.photos import choose
    from distort_pipeline.distortions import apply
    from distort_pipeline.distortions.presets import parameters
    from distort_pipeline.networks.jpeg_stage import read_jpeg_stage
    from distort_pipeline.records import make_rng

    folder.mkdir(parents=True, exist_ok=True)
    chosen = choose(photos)
    learn = [(photo.stem, image) for photo, image in chosen if photo.part == "learn"]
    places = [place for number, (_, image) in enumerate(learn) for place in _places(number, image.shape[:2])]
    pristine = [image for _, image in learn]
    _write_tiles(folder / "pristine.xz", _cut(pristine, places))
    for name in CODECS:
        level = parameters("paper_like", name, 1)
        images = [apply(name, image, level, make_rng(SEED)).image for image in pristine]
        _write_tiles(folder / f"{name}.xz", _cut(images, places))
    tables: dict[str, Any] = {}
    for name in UNKNOWN:
        made = folder.parent / f"{folder.name}.made" / name
        make(MAKERS[name], chosen, made)
        files = {path.stem: path for path in (made / "learn" / "distorted").iterdir()}
        _write_tiles(folder / f"{name}.xz", _cut([_read(files[stem]) for stem, _ in learn], places))
        if (stage := read_jpeg_stage(next(iter(files.values())))) is not None:
            tables |= {f"{name}.luma": stage.luma, f"{name}.chroma": stage.chroma}
            tables[f"{name}.subsampling"] = np.array(stage.subsampling)
    np.savez(folder / "places.npz", places=np.array(places), **tables)
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    print(f"{folder}: {len(places)} tiles of {len(DISTORTIONS)} distortions, {size / 2**20:.1f} MiB without wheels")


def _read(path: Path) -> Tiles:
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB"))


def _places(image: int, size: Sequence[int]) -> list[tuple[int, int, int, int, int]]:
    """Return (image, y, x, height, width) of the tiles of an image, at multiples of 16 px."""
    height, width = size
    shares = np.linspace(0, 1, TILES_EACH)
    return [
        (image, int(s * (height - TILE_PX)) // 16 * 16, int(s * (width - TILE_PX)) // 16 * 16, height, width)
        for s in shares
    ]


def _cut(images: Sequence[Tiles], places: Sequence[tuple[int, int, int, int, int]]) -> Tiles:
    return np.stack([images[n][y : y + TILE_PX, x : x + TILE_PX] for n, y, x, *_ in places])


def _write_tiles(path: Path, tiles: Tiles) -> None:
    """Write tiles losslessly: differences of neighbours, compressed."""
    differences = np.diff(tiles, axis=2, prepend=np.zeros_like(tiles[:, :, :1]))  # modulo 256
    planes = np.ascontiguousarray(differences.transpose(0, 3, 1, 2))
    path.write_bytes(lzma.compress(planes.tobytes(), preset=6))


def read_tiles(path: Path) -> Tiles:
    """Return the tiles of a file that `pack` wrote."""
    planes = np.frombuffer(lzma.decompress(path.read_bytes()), np.uint8).reshape(-1, 3, TILE_PX, TILE_PX)
    return np.ascontiguousarray(np.cumsum(planes, axis=3, dtype=np.uint8).transpose(0, 2, 3, 1))


# --- train -----------------------------------------------------------------------------------------------------------


def train(folder: Path, out: Path, minutes: float, setting: Setting) -> None:
    """Train both networks on every distortion, as long as `minutes` last; what is finished in `out` is kept."""
    from distort_pipeline.networks.backend import start_backend

    start_backend()
    ends = time.monotonic() + 60 * minutes
    with np.load(folder / "places.npz") as packed:
        meta = dict(packed)
    pristine = read_tiles(folder / "pristine.xz")
    out.mkdir(parents=True, exist_ok=True)
    tasks = [(name, network) for name in DISTORTIONS for network in NETWORKS]
    open_tasks = [task for task in tasks if not _done(out, *task).is_file()]
    for number, (name, network) in enumerate(open_tasks):
        seconds = (ends - time.monotonic()) / (len(open_tasks) - number)
        if seconds <= 0:
            print(f"time is over: {len(open_tasks) - number} trainings are left", flush=True)
            break
        distorted = noisy(name, pristine) if name in NOISES else read_tiles(folder / f"{name}.xz")
        data = Data.of(name, pristine, distorted, meta)
        trained = (train_paper if network == "paper" else train_compact)(data, seconds, setting)
        np.savez_compressed(_done(out, name, network), **trained)
        print(f"{name}, {network}: {json.dumps(_figures(trained))}", flush=True)
    gather(out, setting)


def noisy(name: str, pristine: Tiles) -> Tiles:
    """Return tiles with one of NOISES: of the paper's four, those that need no codec."""
    from distort_pipeline.distortions import apply
    from distort_pipeline.distortions.presets import parameters
    from distort_pipeline.records import derive_seed, make_rng

    level = parameters("paper_like", name, 1)
    return np.stack([apply(name, x, level, make_rng(derive_seed(SEED, n))).image for n, x in enumerate(pristine)])


def _done(out: Path, name: str, network: str) -> Path:
    return out / "trained" / f"{name}-{network}.npz"


def _figures(trained: Mapping[str, Any]) -> dict[str, float]:
    return {key: round(float(trained[key]), 5) for key in ("jsd_nss", "identity", "delta_psnr_db", "images_a_second")}


@dataclass(frozen=True)
class Data:
    """Tiles of one distortion: those that train, and those of other photographs that validate."""

    name: str
    pristine: Tiles
    distorted: Tiles
    places: NDArray[np.int64]  # (N, 5)
    held: NDArray[np.bool_]
    jpeg: Any  # the last stage, where the files say it

    @classmethod
    def of(cls, name: str, pristine: Tiles, distorted: Tiles, meta: Mapping[str, Any]) -> Data:
        """Return the tiles of `name`, split by photographs."""
        from distort_pipeline.networks.jpeg_stage import JpegStage

        jpeg = None
        if f"{name}.luma" in meta:
            jpeg = JpegStage(meta[f"{name}.luma"], meta[f"{name}.chroma"], str(meta[f"{name}.subsampling"]))
        return cls(name, pristine, distorted, meta["places"], meta["places"][:, 0] % HELD_EVERY == 0, jpeg)

    def batches(self, batch: int) -> Iterator[tuple[Tiles, Tiles]]:
        """Yield batches of training tiles for ever."""
        rng, numbers = np.random.default_rng(SEED), np.flatnonzero(~self.held)
        while True:
            chosen = rng.choice(numbers, batch, replace=len(numbers) < batch)
            yield self.pristine[chosen], self.distorted[chosen]

    def scores(self, generated: Tiles) -> dict[str, Any]:
        """Return the figures of the held tiles' generated versions."""
        x, y = self.pristine[self.held], self.distorted[self.held]
        strength = [10 * np.log10(_mse(a, t) / _mse(a, g)) for a, t, g in zip(x, y, generated, strict=True)]
        return {
            "jsd_nss": float(np.mean([jsd_nss(t, g) for t, g in zip(y, generated, strict=True)])),
            "identity": float(np.mean([jsd_nss(t, a) for t, a in zip(y, x, strict=True)])),
            "delta_psnr_db": float(np.mean(strength)),
            "generated": generated[:SHOWN],
        }


def _mse(a: Tiles, b: Tiles) -> float:
    return max(float(np.square(a.astype(np.float32) - b).mean()), 1e-2)


def timed(step: Callable[[int], object], seconds: float, marks: int, mark: Callable[[int], None]) -> tuple[int, float]:
    """Call step(number) for `seconds`, the first uncounted, and mark(number) `marks` times; return steps and their s.

    Steps are queued on the device; every tenth is waited for by reading what it returns.
    """
    step(0)
    started, number, spent, due = time.monotonic(), 1, 0.0, 1
    while True:
        result = step(number)
        number += 1
        if number % 10 == 0:
            float(np.asarray(result).sum())
            spent = time.monotonic() - started
            if spent >= due * seconds / marks:
                paused = time.monotonic()
                mark(number)
                started += time.monotonic() - paused
                due = int(spent / (seconds / marks)) + 1
            if spent >= seconds:
                return number, spent


def train_paper(data: Data, seconds: float, setting: Setting) -> dict[str, Any]:
    """Train the paper's networks by the paper's losses for about `seconds`, compilation included."""
    from distort_pipeline.networks.predictor import Predictor
    from distort_pipeline.training.gan import GANConfig, make_trainer

    began = time.monotonic()
    channels = setting.noise_channels if data.name in RANDOM else 0
    trainer, device = make_trainer(
        GANConfig(
            base_filters=setting.filters, discriminator_filters=setting.filters, noise_channels=channels,
            discriminator_input="plain", precision=setting.precision, crop_px=TILE_PX, batch_size=setting.batch,
            generator_lr=3e-4, discriminator_lr=1e-4, beta_1=0.5, beta_2=0.999, lambda_l1=0.1, l1_scale=2.0,
            l1_reduction="mean", ema_decay=0.999, seed=SEED,
        )
    )  # fmt: skip
    batches, severities = data.batches(setting.batch), np.ones((setting.batch, 1), np.float32)
    curve: list[tuple[float, ...]] = []
    scored: dict[str, Any] = {}

    def step(number: int) -> object:
        return trainer.step(*next(batches), severities, number)["generator_loss"]  # type: ignore[attr-defined]

    def mark(number: int) -> None:
        predictor = Predictor(trainer.ema_generator, noise_channels=channels, batch_size=2)
        held = data.pristine[data.held]
        scored.update(data.scores(predictor.distort(held, list(range(len(held))))))
        curve.append((number, scored["jsd_nss"], scored["delta_psnr_db"]))

    step(0)
    left = max(seconds - (time.monotonic() - began), 1.0)
    steps, spent = timed(step, left, setting.validations, mark)
    speed = {"steps": steps, "images_a_second": steps * setting.batch / spent, "device": device}
    return {**scored, **speed, "curve": np.array(curve)}


def train_compact(data: Data, seconds: float, setting: Setting) -> dict[str, Any]:
    """Train the product's network from the identity for about `seconds`: towards the mean, then adversarially."""
    from distort_pipeline.networks.compact import CompactBody
    from distort_pipeline.networks.patches import PairPatch
    from distort_pipeline.training.compact import (
        AdversarialTrainer,
        CompactCrops,
        CompactNetwork,
        CompactSettings,
        MeanTrainer,
    )

    began = time.monotonic()
    patches = [
        PairPatch(x, y, image, top, left, height, width)
        for x, y, (image, top, left, height, width) in zip(
            data.pristine, data.distorted, data.places.tolist(), strict=True
        )
    ]
    fitted = [patch for patch, held in zip(patches, data.held, strict=True) if not held]
    bases = [patch.pristine.astype(np.float32) for patch in fitted]
    rms = float(np.sqrt(np.mean([np.square(p.distorted - b).mean() for p, b in zip(fitted, bases, strict=True)])))
    crops = CompactCrops(fitted, bases, crop_px=96, batch=setting.batch, seed=SEED)
    network = CompactNetwork(CompactSettings(seed=SEED), residual_scale=rms, jpeg=data.jpeg)
    curve: list[tuple[float, ...]] = []
    scored: dict[str, Any] = {}

    def mark(number: int) -> None:
        body = CompactBody(network.averaged, noise_scale=rms, stochastic=data.name in RANDOM)
        scored.update(data.scores(np.stack(list(_generated(body, data, patches)))))
        curve.append((number, scored["jsd_nss"], scored["delta_psnr_db"]))

    most = 10**6  # the number of steps is not known before, so rates are not annealed
    mean = MeanTrainer(network, CompactSettings(), steps=most)
    mean.step(crops.at(0), 0)
    budget = setting.mean_share * max(seconds - (time.monotonic() - began), 1.0)
    steps, _ = timed(lambda number: mean.step(crops.at(number), number)["l1"], budget, 1, mark)
    adversarial = AdversarialTrainer(network, CompactSettings(), steps=most)
    adversarial.step(crops.at(0), 0)
    left = max(seconds - (time.monotonic() - began), 1.0)
    more, spent = timed(
        lambda number: adversarial.step(crops.at(number), number)["generator_loss"],
        left,
        setting.validations,
        lambda number: mark(steps + number),
    )
    weights = {f"weights/{variable.path}": np.array(variable.numpy()) for variable in network.averaged.variables}
    speed = {"steps": steps + more, "images_a_second": more * setting.batch / spent}
    return {**scored, **speed, "curve": np.array(curve), "noise_scale": rms, **weights}


def _generated(body: Any, data: Data, patches: Sequence[Any]) -> Iterator[Tiles]:
    """Yield the held tiles as the network makes them of the pristine ones."""
    from distort_pipeline.networks.patches import FREE_CHANNELS, LATENTS

    for number in np.flatnonzero(data.held).tolist():
        patch, rng = patches[number], np.random.default_rng(number)
        x = patch.pristine.astype(np.float32)
        free = rng.standard_normal((*x.shape[:2], FREE_CHANNELS), dtype=np.float32)
        latent = rng.standard_normal(LATENTS, dtype=np.float32)
        added = body(
            image=patch.pristine, position=patch.position, base=x, noise=np.zeros_like(x), free=free, latent=latent
        )
        pixels = np.clip(np.rint(x + added), 0, 255).astype(np.uint8)
        yield pixels if data.jpeg is None else data.jpeg.encode(pixels)


def gather(out: Path, setting: Setting) -> None:
    """Write what comes back out of the finished trainings: figures.json, curves.tsv, generated.npz, weights.npz."""
    figures: dict[str, dict[str, Any]] = {}
    curves = ["distortion\tnetwork\tstep\tjsd_nss\tdelta_psnr_db"]
    generated: dict[str, Any] = {}
    weights: dict[str, Any] = {}
    for name in DISTORTIONS:
        for network in NETWORKS:
            if not _done(out, name, network).is_file():
                continue
            with np.load(_done(out, name, network)) as stored:
                trained = dict(stored)
            figures.setdefault(name, {})[network] = {**_figures(trained), "steps": int(trained["steps"])}
            curves += [f"{name}\t{network}\t{int(n)}\t{bits:.6f}\t{db:.3f}" for n, bits, db in trained["curve"]]
            generated[f"{name}-{network}"] = trained["generated"]
            weights |= {f"{name}/{key}": value for key, value in trained.items() if key.startswith("weights/")}
    (out / "figures.json").write_text(
        json.dumps({"device": device_name(), **asdict(setting), "trainings": figures}, indent=1)
    )
    (out / "curves.tsv").write_text("\n".join(curves) + "\n")
    np.savez_compressed(out / "generated.npz", **generated)
    np.savez_compressed(out / "weights.npz", **weights)


def device_name() -> str:
    """Return the kind of the device that JAX computes on."""
    import jax

    return str(jax.devices()[0].device_kind)


# --- JSD_NSS, without OpenCV -----------------------------------------------------------------------------------------

WINDOW = np.exp(-0.5 * np.square(np.arange(-3, 4) / (7 / 6)))  # Mittal et al. 2012, section II
WINDOW /= WINDOW.sum()
LUMA = np.array([0.299, 0.587, 0.114])  # BT.601
BOUNDS = np.concatenate([[-np.inf], np.linspace(-2, 2, 102), [np.inf]])


def jsd_nss(true: Tiles, generated: Tiles) -> float:
    """Return JSD_NSS in bits by its definition, without OpenCV; a test compares it with the package's."""
    p, q = (
        np.histogram(_products(image), BOUNDS)[0] / (image.shape[0] - 1) / (image.shape[1] - 1)
        for image in (true, generated)
    )
    middle = (p + q) / 2
    return float((rel_entr(p, middle).sum() + rel_entr(q, middle).sum()) / 2 / np.log(2))


def _products(image: Tiles) -> NDArray[np.float64]:
    """Return the products of diagonal neighbours among the MSCN coefficients of luma."""
    grey = np.rint(image @ LUMA)
    mean = _windowed(grey)
    field = (grey - mean) / (np.sqrt(np.maximum(_windowed(np.square(grey)) - np.square(mean), 0)) + 1)
    return np.asarray(field[:-1, :-1] * field[1:, 1:])


def _windowed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(correlate1d(correlate1d(values, WINDOW, 0, mode="nearest"), WINDOW, 1, mode="nearest"))


def page(out: Path) -> None:
    """Write benchmarks/GPU.md."""
    figures = json.loads((out / "figures.json").read_text())
    lines = [
        "# On a GPU",
        "",
        f"Written by `python studies/gpu/run.py page`; one run on {figures['device']}, by JAX: the paper's network of "
        f"{figures['filters']} filters in {figures['precision']} (256 px crops, batches of {figures['batch']}) and the "
        "product's, from random weights without any fit; 96 tiles of 48 photographs, validated on those of eight.",
        "",
        "| distortion | network | steps | images/s | JSD_NSS, bits | identity | ΔPSNR, dB |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for name, trainings in figures["trainings"].items():
        for network, row in trainings.items():
            lines.append(
                f"| `{name}` | {network} | {row['steps']} | {row['images_a_second']:.1f} | {row['jsd_nss']:.4f} | "
                f"{row['identity']:.4f} | {row['delta_psnr_db']:+.2f} |"
            )
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Pack, train, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("photos", type=Path)
    packing.add_argument("pack", type=Path)
    training = commands.add_parser("train")
    training.add_argument("pack", type=Path)
    training.add_argument("out", type=Path)
    training.add_argument("--minutes", type=float, default=9.0)
    training.add_argument("--small", action="store_true", help="small networks, for a CPU")
    writing = commands.add_parser("page")
    writing.add_argument("out", type=Path)
    args = parser.parse_args()
    if args.command == "pack":
        pack(args.photos, args.pack)
    elif args.command == "train":
        (args.out / "trained").mkdir(parents=True, exist_ok=True)
        train(args.pack, args.out, args.minutes, SMALL if args.small else Setting())
    else:
        page(args.out)


if __name__ == "__main__":
    main()
