"""Settings and folders of external pairs that are small."""

from distort_pipeline.config import PairsConfig
from distort_pipeline.data.images import encode_png


def write(folder, images):
    folder.mkdir()
    for name, image in images.items():
        (folder / f"{name}.png").write_bytes(encode_png(image))
    return folder


def external_only(small_settings, folder):
    return PairsConfig(**{**small_settings, "distortions": ()}, external={"scan": str(folder)})
