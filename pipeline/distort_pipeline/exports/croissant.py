"""The documents of every export, for people and for machines.

samples.csv         a row for each sample (metadata.csv in png_folder)
attributions.csv    licence and source of each photograph in the export
README.md           the card
croissant.json      the description for machines
SHA256SUMS          checksums of all files, for `sha256sum --check`

Croissant 1.1 is JSON-LD, here with the fields of the RAI extension, and of PROV-O for the synthetic origin:
https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html and croissant-rai-spec.html. It does not support Zarr,
and treats shards of images as plain files, so the only record set is the table of all samples.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from distort_pipeline.data.files import write_bytes, write_csv
from distort_pipeline.data.manifests import ATTRIBUTIONS, write_attributions
from distort_pipeline.exports import Exported, ExportFormat, ExportSource, Part
from distort_pipeline.exports.card import PAPER, SOCIAL_IMPACT, Contents, dataset_card, licence_id, title

NAMES = """annotation arrayShape citeAs column containedIn equivalentProperty excludes extract field fileProperty
fileObject fileSet format includes isArray isLiveDataset jsonPath key md5 parentField path readLines recordSet
references regex repeated replace samplingRate sdVersion separator source subField transform unArchive value"""
OTHERS = {  # not of the vocabulary `cr`
    "@language": "en",
    "@vocab": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "sc": "https://schema.org/",
    "prov": "http://www.w3.org/ns/prov#",
}
# appendix 1 of the specification, prov, and what mlcroissant asks for
CONTEXT = {**OTHERS, **{name: f"cr:{name}" for name in NAMES.split()}}
Document = Mapping[str, object]
TYPES = {bool: "sc:Boolean", int: "sc:Integer", float: "sc:Float"}  # others are sc:Text
METHOD = "https://doi.org/10.1109/LSP.2020.3040656"


def croissant(
    name: str,
    exporter: ExportFormat,
    source: ExportSource,
    contents: Contents,
    licences: Mapping[str, int],
    table_digest: str,
) -> Document:
    """Return the document of an export in the format `name`; `table_digest` is the SHA-256 of its table's file."""
    rated = any(store.of_people for store in source.added)
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": f"distorted-images-{source.corpus.metadata.digest[:12]}-{name}",
        "description": f"{title(contents)}: photographs and the same photographs distorted by trained generators.",
        "license": licence_id(licences),
        "url": METHOD,
        "citeAs": " ".join(PAPER.split()),
        "version": "1.0.0",
        **({"datePublished": contents.date} if contents.date else {}),
        "keywords": ["image quality assessment", "image distortion", *contents.samples],
        **_origin(source),
        **_responsibility(contents, rated=rated),
        "distribution": _distribution(exporter, table_digest),
        "recordSet": [_record_set({**dict.fromkeys(contents.location_columns, str), **source.column_types})],
    }


def _origin(source: ExportSource) -> Document:
    """Return the synthetic origin in the words of PROV-O: from which photographs, and by which generators."""
    metadata = source.corpus.metadata
    weights = ", ".join(f"{name} {model.digest[:16]}" for name, model in sorted(metadata.models.items()))
    return {
        "prov:wasDerivedFrom": {"@id": f"urn:sha256:{metadata.manifest_digest}"},
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "prov:label": f"Synthetic: photographs distorted by trained generators; digests of the weights: {weights}",
        },
        "prov:wasAttributedTo": {
            "@type": "prov:SoftwareAgent",
            "prov:label": f"distort-pipeline {metadata.packages.get('distort-pipeline', '')}".rstrip(),
        },
    }


def _responsibility(contents: Contents, *, rated: bool) -> Document:
    """Return the fields of the RAI extension."""
    scores = (
        "People rated some samples; columns ending in _count are the numbers of ratings."
        if rated
        else "There are no human scores: every label is computed from the pixels and is no opinion score."
    )
    return {
        "rai:dataCollection": (
            f"Tiles cut from {len(contents.images)} photographs, distorted by generators that had learned a "
            "distortion from pairs of pristine and distorted images."
        ),
        "rai:dataCollectionType": ["Others"],
        "rai:dataPreprocessingProtocol": ["Photographs were converted to 8-bit sRGB; tiles keep their offsets."],
        "rai:dataAnnotationProtocol": scores,
        "rai:dataUseCases": ["Training, pretraining and testing of image-quality measures."],
        "rai:dataLimitations": [
            "A generator only approximates the distortion that it learned; the corpus's report has the distances.",
            scores,
        ],
        "rai:dataBiases": ["Content is that of the photographs given, which were not chosen to represent anything."],
        "rai:personalSensitiveInformation": ["Photographs can show people; nothing is recorded about them."],
        "rai:dataSocialImpact": " ".join(SOCIAL_IMPACT.split()),
        "rai:dataReleaseMaintenancePlan": "None: a new version has another digest.",
    }


def _distribution(exporter: ExportFormat, table_digest: str) -> list[Document]:
    table = {
        "@type": "cr:FileObject",
        "@id": "table",
        "name": "table",
        "description": "A row for each sample.",
        "contentUrl": exporter.table,
        "encodingFormat": "text/csv",
        "sha256": table_digest,
    }
    pattern, media = exporter.files
    images = {
        "@type": "cr:FileSet",
        "@id": "images",
        "name": "images",
        "description": "The files with the images.",
        "includes": pattern,
        "encodingFormat": media,
    }
    return [table, images]


def _record_set(columns: Mapping[str, type]) -> Document:
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"samples/{column}",
            "name": column,
            "dataType": TYPES.get(kind, "sc:Text"),
            "source": {"fileObject": {"@id": "table"}, "extract": {"column": column}},
        }
        for column, kind in columns.items()
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "description": "Each sample: paths, origin and labels.",
        "key": {"@id": "samples/sample"},
        "field": fields,
    }


CARD, CROISSANT, CHECKSUMS = "README.md", "croissant.json", "SHA256SUMS"


def write_documents(
    exporter: ExportFormat, source: ExportSource, parts: Sequence[Part], out: Path, name: str, *, date: str | None
) -> list[Path]:
    """Write all documents except the checksums, and return the files; `name` is the format's."""
    first = parts[0]
    location = _location(exporter, source, first, source.samples(first)[0])
    contents = Contents(location_columns=tuple(location), date=date)
    columns = [*contents.location_columns, *source.column_types]
    table = write_csv(out / exporter.table, columns, _rows(exporter, source, parts, contents))
    attributions = [row for row in source.corpus.attributions() if row.image in contents.images]
    write_attributions(out / ATTRIBUTIONS, attributions)
    licences = Counter(row.licence for row in attributions)
    write_bytes(out / CARD, dataset_card(name, exporter, source, contents, licences).encode())
    table_digest = hashlib.sha256(table.read_bytes()).hexdigest()
    document = croissant(name, exporter, source, contents, licences, table_digest)
    write_bytes(out / CROISSANT, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
    return [table, out / ATTRIBUTIONS, out / CARD, out / CROISSANT]


def write_checksums(out: Path, digests: Mapping[str, str]) -> Path:
    """Write path → SHA-256 in the format of `sha256sum`, and return the file."""
    lines = (f"{digest}  {path}\n" for path, digest in sorted(digests.items()))
    write_bytes(out / CHECKSUMS, "".join(lines).encode())
    return out / CHECKSUMS


def _rows(
    exporter: ExportFormat, source: ExportSource, parts: Sequence[Part], contents: Contents
) -> Iterator[dict[str, object]]:
    """Yield the row of each sample, and count the sample in `contents`."""
    for part in parts:
        for sample in source.samples(part):
            contents.add(sample)
            yield {**_location(exporter, source, part, sample), **sample.row()}


def _location(exporter: ExportFormat, source: ExportSource, part: Part, sample: Exported) -> dict[str, str]:
    true = exporter.locate_true(sample) if source.with_truth else {}
    return {**exporter.locate(part, sample), **true}
