"""doctor: checks the installation and suggests remedies."""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from distort_pipeline.commands.inputs import PRETRAINED
from distort_pipeline.commands.options import EXIT_BROKEN, JSON, examples, show_json
from distort_pipeline.errors import PipelineError
from distort_pipeline.networks.backend import backend_name, bfloat16_is_faster, start_backend
from distort_pipeline.records import package_versions

ROOMY_GB = 10  # a corpus of 100,000 tiles of 256 px takes about 20 GB, the sample's less than one
EXTRAS = {
    "dvc": "dvc", "dvclive": "dvc", "jax": "jax", "torch": "torch", "s3fs": "s3", "gcsfs": "gs", "adlfs": "azure",
    "xarray": "xarray", "onnx": "onnx", "onnxruntime": "onnx", "tf2onnx": "onnx", "av": "video",
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """A check: its subject, its result, and a remedy if the result is not good enough."""

    subject: str
    result: str
    fine: bool = True
    remedy: str = ""

    def line(self) -> str:
        """Return the finding as a line of text."""
        mark = "ok  " if self.fine else "FAIL"
        return f"{mark}  {self.subject}: {self.result}" + (f" → {self.remedy}" if self.remedy else "")


def examine() -> list[Finding]:
    """Return the findings on all requirements of the pipeline, in the order of their use."""
    checks: tuple[Callable[[], Finding], ...] = (
        _python,
        _opencv,
        _openjpeg,
        lambda: _packages("Zarr and Parquet", ["zarr", "numcodecs", "pyarrow", "numpy", "scipy"]),
        lambda: _packages("Dask", ["dask", "distributed"]),
        _jax if backend_name() == "jax" else _tensorflow,
        _bfloat16,
        _pretrained,
        _extras,
        _disk,
    )
    return [check() for check in checks]


def _python() -> Finding:
    version = platform.python_version_tuple()
    fine = (3, 11) <= (int(version[0]), int(version[1])) <= (3, 13)
    result = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return Finding("Python", result, fine, "" if fine else "use Python 3.11, 3.12 or 3.13")


def _opencv() -> Finding:
    try:
        from distort_pipeline.distortions import codec_versions

        versions = codec_versions(["jpeg"])
    except ImportError as error:
        return Finding("OpenCV", f"does not load ({error})", False, "pip install opencv-python-headless")
    return Finding("OpenCV", f"{versions['opencv']}, JPEG by {versions['libjpeg']}")


def _openjpeg() -> Finding:
    try:
        from distort_pipeline.distortions.jp2k import openjpeg_status

        version, origin = openjpeg_status()
    except (PipelineError, ImportError) as error:
        return Finding("OpenJPEG", "not found", False, str(error))
    return Finding("OpenJPEG", f"{version} from {_from_home(origin)}")


def _from_home(path: str | Path) -> str:
    """Return `path` with ~ for the home folder, if this user has one."""
    try:
        home = Path.home()
    except RuntimeError:  # no HOME, and no line in /etc/passwd
        return str(path)
    inside = Path(path).is_relative_to(home) and home != Path(home.anchor)
    return f"~/{Path(path).relative_to(home).as_posix()}" if inside else str(path)


def _packages(subject: str, names: list[str]) -> Finding:
    versions = package_versions(names)
    missing = sorted(set(names) - set(versions))
    result = ", ".join(f"{name} {version}" for name, version in versions.items()) or "nothing"
    return Finding(subject, result, not missing, f"pip install {' '.join(missing)}" if missing else "")


def _jax() -> Finding:
    try:
        start_backend()
        import jax
    except (PipelineError, ImportError) as error:
        return Finding("JAX", f"does not load ({error})", False, "pip install jax, or unset KERAS_BACKEND")
    devices = ", ".join(str(device) for device in jax.devices())
    return Finding(
        "JAX, by KERAS_BACKEND", f"{jax.__version__}, Keras {package_versions(['keras'])['keras']}; {devices}"
    )


def _tensorflow() -> Finding:
    try:
        start_backend()
        import tensorflow as tf
    except PipelineError as error:
        return Finding("TensorFlow", str(error))
    except ImportError as error:
        return Finding("TensorFlow", f"does not load ({error})", False, "pip install tensorflow")
    gpus = tf.config.list_physical_devices("GPU")
    devices = ", ".join(device.name.removeprefix("/physical_device:") for device in gpus) or "no GPU, trains on the CPU"
    remedy = "" if gpus else "for an NVIDIA GPU: pip install '.[gpu]' in a clone of distort-pipeline"
    return Finding(
        "TensorFlow", f"{tf.__version__}, Keras {package_versions(['keras'])['keras']}; {devices}", True, remedy
    )


def _bfloat16() -> Finding:
    try:
        faster = bfloat16_is_faster()
    except (PipelineError, ImportError):
        return Finding("bfloat16", "not tried: without TensorFlow no networks are trained")
    return Finding("bfloat16", "mixed_bfloat16 is faster here" if faster else "not faster here: use float32")


def _pretrained() -> Finding:
    names = ", ".join(sorted(path.parent.name for path in PRETRAINED.glob("*/store.json")))
    return Finding("pretrained generators", f"{names} in {_from_home(PRETRAINED)}")


def _extras() -> Finding:
    versions = package_versions(list(EXTRAS))
    result = ", ".join(f"{name} {version}" for name, version in versions.items()) or "none"
    missing = sorted({extra for name, extra in EXTRAS.items() if name not in versions})
    return Finding("extras", result, True, f"not installed: {', '.join(missing)}" if missing else "")


def _disk() -> Finding:
    free_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    fine = free_gb >= 1
    remedy = "" if free_gb >= ROOMY_GB else f"a corpus of 100,000 tiles takes about {2 * ROOMY_GB} GB"
    return Finding("free disk here", f"{free_gb:.1f} GB", fine, remedy)


@click.command("doctor", epilog=examples("doctor", "doctor --json"))
@JSON
@click.pass_context
def doctor_command(ctx: click.Context, as_json: bool) -> None:
    """Check the installation and suggest remedies."""
    findings = examine()
    if as_json:
        show_json([dataclasses.asdict(finding) for finding in findings])
    else:
        for finding in findings:
            click.echo(finding.line())
    ctx.exit(0 if all(finding.fine for finding in findings) else EXIT_BROKEN)
