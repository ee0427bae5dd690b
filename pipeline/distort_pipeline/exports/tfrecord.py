"""TFRecord: shards of tf.train.Example, one for each batch and split.

export/train/jpeg-00000.tfrecord    features: reference and distorted (PNG), and all columns of samples.csv
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from distort_pipeline.exports import EXPORTS, Encoded, ExportSource, ShardFormat


@EXPORTS.add("tfrecord")
class TfRecord(ShardFormat):
    """Files for sequential reading with tf.data."""

    suffix = ".tfrecord"
    files = ("*/*.tfrecord", "application/octet-stream")
    about = """
```python
import glob
import tensorflow as tf

FEATURES = {
    "reference": tf.io.FixedLenFeature([], tf.string),
    "distorted": tf.io.FixedLenFeature([], tf.string),
    "distortion": tf.io.FixedLenFeature([], tf.string),
    "ssim_higher_better": tf.io.FixedLenFeature([], tf.float32, float("nan")),
}

def parse(serialized):
    features = tf.io.parse_single_example(serialized, FEATURES)
    for name in ("reference", "distorted"):
        features[name] = tf.io.decode_png(features[name], channels=3)
    return features

dataset = tf.data.TFRecordDataset(sorted(glob.glob("train/*.tfrecord"))).map(parse)
```

The other columns of `samples.csv` are features too: integers and booleans as int64, other numbers as float32, text as
bytes; missing values are omitted. A shard holds one distortion: shuffle when training.
"""

    def write_shard(self, source: ExportSource, path: Path, samples: Iterable[Encoded]) -> None:  # noqa: ARG002
        """Write a file of Examples, with deterministic bytes."""
        import tensorflow as tf

        try:
            with tf.io.TFRecordWriter(str(path)) as writer:
                for encoded in samples:
                    writer.write(_example(encoded))
        except tf.errors.OpError as error:  # raised by TensorFlow if the disk is full
            raise OSError(error.message) from None


def _example(encoded: Encoded) -> bytes:
    import tensorflow as tf

    sample, images = encoded
    values = {**images, **sample.row()}
    features = {name: _feature(value) for name, value in values.items() if value is not None}
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return bytes(example.SerializeToString(deterministic=True))


def _feature(value: Any) -> Any:
    import tensorflow as tf

    if isinstance(value, bool | int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[int(value)]))
    if isinstance(value, float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
    data = value if isinstance(value, bytes) else value.encode()
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))
