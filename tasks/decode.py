"""From the bytes of a photograph to sRGB pixels, whatever the bytes are.

Rules, each the answer to a file somebody has:

* JPEG, PNG, WebP, TIFF and BMP only, told by their first bytes, never by name. The header is read and its size capped
  before a pixel is decoded.
* Of an animation or several pages the first is taken: in cameras' files it is the photograph, the others are previews.
* EXIF orientation is applied. EXIF that cannot be read counts as upright (note "exif").
* An ICC profile is converted to sRGB, perceptual intent, unless it differs from sRGB by at most one code. One that
  cannot be read or does not fit the pixels is ignored (note "profile"): such files are mostly sRGB.
* CMYK is converted by its profile; without one its colours are anybody's guess: rejected. The same holds for PNGs whose
  gAMA, cHRM or cICP chunk tells of another space than sRGB, and for 32-bit pixels.
* 16-bit channels keep their upper byte. Palettes and 1-bit images have too few colours to be a photograph: rejected.
* Alpha: more than 1 % of pixels not opaque is a cut-out or a graphic, rejected; otherwise alpha is dropped. A pattern,
  which is no photograph, is laid on a grey instead.
* Grey becomes RGB; whether grey photographs are wanted is for `tasks.clean` to say, which also knows grey RGB files.
* Nothing but pixels leaves: all metadata is stripped by construction.
"""

import io
import struct
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageCms, UnidentifiedImageError

from storage.errors import SourceError
from storage.records import Image

MAX_PIXELS = 64_000_000  # below Pillow's own alarm at 89 million
MAX_SIDE = 16383  # of a WebP
OPAQUE = 250

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_REFUSED = (b"GIF8", b"\0\0\1\0", b"8BPS", b"\0\0\0\x0cjP  ", b"\0\0\0\x0cJXL ", b"\xff\n", b"%!PS", b"%PDF", b"qoif")
_SRGB_PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (1, True), 6: (3, False), 7: (3, True), 8: (1, False)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """A decoded photograph. image: uint8 (H, W, 3) sRGB. notes: what was assumed or converted, slugs."""

    image: Image
    format: str
    notes: tuple[str, ...]


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, min_side: int = 1, backdrop: int | None = None) -> Decoded:
    """Return the upright sRGB pixels of the photograph in `data`.

    backdrop: code of the grey on which a picture with transparent parts is laid; None rejects it.
    Raises SourceError, reason not_an_image, unsupported_format, too_small, too_wide, too_many_pixels, truncated,
    corrupt, transparent, few_colours, unknown_colours or out_of_memory; nothing else, whatever the bytes.
    """
    name = format_of(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Pillow.DecompressionBombWarning)
            with Pillow.open(io.BytesIO(data), formats=[name]) as picture:
                _check_size(picture.size, max_pixels, min_side)
                picture.load()
                return _converted(picture, _cicp(data) if name == "PNG" else b"", backdrop, name)
    except SourceError:
        raise
    except (Pillow.DecompressionBombWarning, Pillow.DecompressionBombError) as error:
        raise SourceError("too_many_pixels", str(error)) from error
    except MemoryError as error:  # its own reason: a starved machine must not hide among the corrupt files
        raise SourceError("out_of_memory", f"not enough memory for this {name}") from error
    except Exception as error:  # parsers of hostile bytes raise anything: OSError, struct.error, KeyError, ...
        raise _source_error(error, name) from error


def format_of(data: bytes) -> str:
    """Return the format that the first bytes tell; raises SourceError not_an_image or unsupported_format."""
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:2] == b"BM" and len(data) >= 26 and struct.unpack_from("<I", data, 14)[0] <= 256:
        return "BMP"
    if data.startswith(_REFUSED) or data[4:8] == b"ftyp":
        raise SourceError("unsupported_format", "not a JPEG, PNG, WebP, TIFF or BMP")
    raise SourceError("not_an_image", "the first bytes are not those of an image")


def _check_size(size: tuple[int, int], max_pixels: int, min_side: int) -> None:
    width, height = size
    if min(size) < max(1, min_side):
        raise SourceError("too_small", f"{width} x {height}: a side is below {min_side}")
    if width * height > max_pixels:
        raise SourceError("too_many_pixels", f"{width} x {height} are more than {max_pixels} pixels")
    if max(size) > MAX_SIDE:
        raise SourceError("too_wide", f"{width} x {height}: a side is above {MAX_SIDE}")


def _cicp(data: bytes) -> bytes:
    """Return the content of a PNG's cICP chunk, which Pillow does not read, or nothing."""
    at = 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind in (b"cICP", b"IDAT"):
            return data[at + 8 : at + 8 + length] if kind == b"cICP" else b""
        at += 12 + length
    return b""


def _converted(picture: Pillow.Image, cicp: bytes, backdrop: int | None, name: str) -> Decoded:
    turn, notes = _orientation(picture)
    profile = picture.info.get("icc_profile") or b""
    if picture.mode in ("1", "P", "PA"):
        raise SourceError("few_colours", f"mode {picture.mode} has at most 256 colours")
    if not profile:
        _check_png_colour(picture.info, cicp)
    opaque = _without_alpha(picture, backdrop)
    rgb, more = _srgb(opaque, profile)
    image = np.asarray(rgb)
    if turn in _TURNS:
        quarters, mirror = _TURNS[turn]
        image = np.rot90(np.fliplr(image) if mirror else image, quarters)
    image = np.array(image, dtype=np.uint8, order="C")
    return Decoded(image=image, format=name.lower(), notes=tuple(notes + more))


def _orientation(picture: Pillow.Image) -> tuple[int, list[str]]:
    try:
        turn = picture.getexif().get(0x0112, 1)
    except Exception:  # EXIF parsers raise anything; an unreadable one says nothing about the pixels
        return 1, ["exif"]
    return (turn, ["turned"]) if turn in _TURNS else (1, [])


def _check_png_colour(info: dict[Any, Any], cicp: bytes) -> None:
    if cicp:
        if cicp[:1] != b"\x01" or cicp[1] not in (1, 6, 13):  # BT.709 primaries, BT.709 or sRGB transfer
            raise SourceError("unknown_colours", f"cICP {cicp.hex()} is not sRGB")
    elif "srgb" not in info:
        gamma, primaries = info.get("gamma", 1 / 2.2), info.get("chromaticity", _SRGB_PRIMARIES)
        if abs(gamma * 2.2 - 1) > 0.05 or np.abs(np.subtract(primaries, _SRGB_PRIMARIES)).max() > 0.02:
            raise SourceError("unknown_colours", f"gAMA {gamma:.5f} or cHRM is not that of sRGB")


def _without_alpha(picture: Pillow.Image, backdrop: int | None) -> Pillow.Image:
    if not picture.has_transparency_data:
        return picture
    picture = picture.convert("LA" if picture.mode in ("L", "LA", "La") else "RGBA")
    if backdrop is not None:
        rgba = picture.convert("RGBA")
        below = Pillow.new("RGBA", rgba.size, (backdrop, backdrop, backdrop, 255))
        return Pillow.alpha_composite(below, rgba).convert("RGB")
    alpha = np.asarray(picture.getchannel("A"))
    if np.count_nonzero(alpha < OPAQUE) > 0.01 * alpha.size:
        raise SourceError("transparent", f"{np.mean(alpha < OPAQUE):.0%} of the pixels are not opaque")
    return picture.convert(picture.mode[:-1])


def _srgb(picture: Pillow.Image, profile: bytes) -> tuple[Pillow.Image, list[str]]:
    if picture.mode.startswith("I;16"):
        picture = Pillow.fromarray((np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise SourceError("unknown_colours", f"mode {picture.mode}: the range of the pixels is not told")
    if picture.mode not in ("L", "RGB", "CMYK", "LAB"):
        picture = picture.convert("RGB")
    if picture.mode == "LAB":
        return _lab_transform().apply(picture), ["lab"]
    if profile:
        try:
            return _managed(picture, profile)
        except (ImageCms.PyCMSError, OSError, ValueError) as error:
            if picture.mode == "CMYK":
                raise SourceError("unknown_colours", "CMYK with a profile that cannot be read") from error
            return picture.convert("RGB"), ["profile"]
    if picture.mode == "CMYK":
        raise SourceError("unknown_colours", "CMYK without a profile")
    return picture.convert("RGB"), []


def _managed(picture: Pillow.Image, profile: bytes) -> tuple[Pillow.Image, list[str]]:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    transform = ImageCms.buildTransform(source, _srgb_profile(), picture.mode, "RGB", ImageCms.Intent.PERCEPTUAL)
    if picture.mode == "RGB":
        cube = _colour_cube()
        change = np.asarray(transform.apply(cube)).astype(int) - np.asarray(cube)
        if np.abs(change).max() <= 1:
            return picture, []
    return transform.apply(picture), ["icc"]


@cache
def _srgb_profile() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@cache
def _lab_transform() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), _srgb_profile(), "LAB", "RGB")


@cache
def _colour_cube() -> Pillow.Image:
    grid = np.stack(np.meshgrid(*[np.linspace(0, 255, 16)] * 3, indexing="ij"), axis=-1)
    return Pillow.fromarray(grid.reshape(64, 64, 3).astype(np.uint8))


def _source_error(error: Exception, name: str) -> SourceError:
    if isinstance(error, UnidentifiedImageError):  # its text holds an address, which no ledger should
        return SourceError("corrupt", f"{name}: the header cannot be read")
    text = str(error)
    short = any(word in text.lower() for word in ("truncated", "unexpected end", "not enough"))
    return SourceError("truncated" if short else "corrupt", f"{name}: {type(error).__name__}: {text}")
