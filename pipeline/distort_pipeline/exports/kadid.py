"""The layout of KADID-10k (Lin, Hosu, Saupe, QoMEX 2019): all images in one folder, and dmos.csv.

export/images/I00000012.png                 reference tile 12
export/images/I00000012_10_01.png           its sample of distortion type 10 (JPEG) at level 1
export/images/I00000012_11_01_03.png        its sample of type 11, level 1, third draw after the first
export/dmos.csv                             dist_img,ref_img,dmos,var and further columns
export/types.csv                            number and name of each distortion type
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from distort_pipeline.data.files import write_csv
from distort_pipeline.exports import EXPORTS, Exported, ExportSource, Part, PngTree, Score

KADID_TYPES = {"jp2k": 9, "jpeg": 10, "white_noise": 11}  # KADID-10k's own numbers, of 25 types
FIRST_NEW_TYPE = 26
NO_OPINION = "nan"  # readers expect a number


@EXPORTS.add("kadid")
class Kadid(PngTree):
    """KADID's file names and table; `dmos` holds people's ratings only."""

    scored = False
    rating_scale = (1.0, 5.0)
    about = """
All images are in `images/`: `I00000012.png` is reference tile 12, and `I00000012_10_01.png` its sample of distortion
type 10 at level 1, the mildest; a further draw has a fourth number. Types 9, 10 and 11 are KADID's own numbers of JPEG
2000, JPEG and white noise; others start at 26, see `types.csv`.

`dmos.csv` has KADID's columns `dist_img`, `ref_img`, `dmos` and `var`, followed by others. `dmos` and `var` are
people's ratings (1 to 5, higher is better) and the variance of single ratings. **Without ratings both are `nan`.**
Metrics, shares of choices and ratings on scales where lower is better are in columns of their own names. To fill `dmos`
and `var`, add ratings to the corpus with `distort-pipeline label --table`, and export with `--label` and their name.
"""

    def reference_path(self, sample: Exported) -> str:
        """Return the path of the reference tile of a sample."""
        return f"images/I{sample.record.tile:08d}.png"

    def sample_path(self, sample: Exported) -> str:
        """Return the path of a sample."""
        return f"images/{sample_name(sample)}"

    def finish(self, source: ExportSource, parts: Sequence[Part], out: Path) -> list[Path]:
        """Write dmos.csv and types.csv."""
        columns = ("dist_img", "ref_img", "dmos", "var", *source.label_columns, "distortion", "split")
        types: dict[str, str] = {}

        def rows() -> Iterator[list[object]]:
            for sample in source.all_samples(parts):
                record = sample.record
                types[record.distortion] = f"{type_number(sample):02d}"
                names = [Path(path).name for path in (self.sample_path(sample), self.reference_path(sample))]
                opinion = _opinion(source.score, sample)
                yield [*names, *opinion, *sample.labels.values(), record.distortion, record.split]

        table = write_csv(out / "dmos.csv", columns, rows())
        numbers = [(number, name) for name, number in types.items()]
        return [table, write_csv(out / "types.csv", ("type", "distortion"), numbers)]


def sample_name(sample: Exported) -> str:
    """Return the file name of a sample."""
    record = sample.record
    draw = f"_{record.draw:02d}" if record.draw else ""
    return f"I{record.tile:08d}_{type_number(sample):02d}_{record.level:02d}{draw}.png"


def type_number(sample: Exported) -> int:
    """Return the number of a sample's distortion type, KADID's own if available."""
    return KADID_TYPES.get(sample.record.distortion, FIRST_NEW_TYPE + sample.distortion_number)


def _opinion(score: Score, sample: Exported) -> tuple[object, object]:
    """Return mean and variance of people's ratings, if the score is a rating where higher is better, as in KADID."""
    if not score.rated or score.lower_better or sample.score is None:
        return NO_OPINION, NO_OPINION
    deviation = sample.labels[f"{score.name}_std"]
    return sample.score, NO_OPINION if deviation is None else float(deviation) ** 2
