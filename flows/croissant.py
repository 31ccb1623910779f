"""Croissant 1.1 metadata of a dataset (mlcommons.org/croissant/1.1): its files, their hashes, what a record holds."""

from collections.abc import Mapping, Sequence
from typing import Any

from storage.records import PublishedFile

CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "recordSet": "cr:recordSet",
    "field": "cr:field",
    "fileSet": "cr:fileSet",
    "fileObject": "cr:fileObject",
    "source": "cr:source",
    "extract": "cr:extract",
    "fileProperty": "cr:fileProperty",
    "includes": "cr:includes",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
}


def croissant(name: str, shards: Sequence[PublishedFile], licences: Mapping[str, int], codec: str) -> dict[str, Any]:
    """Return the Croissant description of a dataset as JSON values."""
    files = [_file(entry) for entry in shards]
    sets = [
        {
            "@type": "cr:FileSet",
            "@id": "pairs",
            "containedIn": [{"@id": entry.name} for entry in shards],
            "encodingFormat": f"image/{codec}",
            "includes": f"*.{codec}",
        }
    ]
    fields = [_field(side, codec) for side in ("clean", "degraded")]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": name,
        "description": "Aligned (clean, degraded) image pairs for image restoration, with the recipe of each.",
        "license": sorted(licences),
        "distribution": [*files, *sets],
        "recordSet": [{"@type": "cr:RecordSet", "@id": "pair", "field": fields}],
    }


def _file(entry: PublishedFile) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": entry.name,
        "name": entry.name,
        "contentUrl": entry.name,
        "contentSize": f"{entry.bytes} B",
        "encodingFormat": "application/x-tar",
        "sha256": entry.sha256,
    }


def _field(side: str, codec: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"pair/{side}",
        "dataType": "sc:ImageObject",
        "source": {
            "fileSet": {"@id": "pairs"},
            "extract": {"fileProperty": "content"},
            "includes": f"*.{side}.{codec}",
        },
    }
