"""The photographs of the demo: natural colour photographs that other packages ship, copied with their rights.

The installed files themselves are copied, byte for byte, so that the demo makes the same pairs everywhere; the packages
are found but not imported, because scikit-image would fetch from the network what it does not ship.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from storage.errors import PairForgeError
from storage.files import publish_bytes


@dataclass(frozen=True, slots=True)
class Photograph:
    """A photograph that ships with a package, and its rights as the package's documentation states them."""

    name: str
    package: str
    path: str
    licence: str
    author: str


# Rights: docstrings of skimage.data, sklearn/datasets/images/README.txt. That README credits flower.jpg to the author
# of china.jpg, but links to vultilion's page: the link decides.
PHOTOGRAPHS = (
    Photograph("astronaut.png", "skimage", "data/astronaut.png", "Public domain", "NASA"),
    Photograph("chelsea.png", "skimage", "data/chelsea.png", "CC0-1.0", "Stefan van der Walt"),
    Photograph("coffee.png", "skimage", "data/coffee.png", "CC0-1.0", "Rachel Michetti"),
    Photograph(
        "motorcycle.png",
        "skimage",
        "data/motorcycle_left.png",
        "Middlebury 2014 stereo benchmark, no licence stated",
        "D. Scharstein et al., Middlebury College",
    ),
    Photograph("rocket.jpg", "skimage", "data/rocket.jpg", "Public domain", "SpaceX"),
    Photograph("china.jpg", "sklearn", "datasets/images/china.jpg", "CC-BY-2.0", "danielbuechele (Flickr)"),
    Photograph("flower.jpg", "sklearn", "datasets/images/flower.jpg", "CC-BY-2.0", "vultilion (Flickr)"),
)


def write_photographs(folder: Path) -> None:
    """Copy the photographs and a table of their rights into `folder`; what is there and the same is left alone."""
    for photograph in PHOTOGRAPHS:
        _write(folder / photograph.name, _shipped(photograph).read_bytes())
    rows = ["path\tlicence\tauthor", *(f"{item.name}\t{item.licence}\t{item.author}" for item in PHOTOGRAPHS)]
    _write(folder / "licences.tsv", ("\n".join(rows) + "\n").encode())


def _shipped(photograph: Photograph) -> Path:
    found = importlib.util.find_spec(photograph.package)
    places = found.submodule_search_locations if found else None
    path = Path(places[0]) / photograph.path if places else Path(photograph.path)
    if not path.is_file():
        raise PairForgeError(f"{photograph.package} ships no {photograph.path} here; install PairForge again")
    return path


def _write(path: Path, data: bytes) -> None:
    if not path.exists() or path.read_bytes() != data:
        publish_bytes(path, data)
