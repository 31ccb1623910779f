"""Samples: every bit comes back, nothing else goes along, and what is not ours is refused before it is decoded."""

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.errors import ShardError
from storage.samples import (
    MAX_SIDE,
    Codec,
    decode_depth,
    decode_frames,
    decode_image,
    decode_labels,
    encode_depth,
    encode_frames,
    encode_image,
    encode_labels,
    pixels_sha256,
)

CODECS: tuple[Codec, ...] = ("webp", "png")
NOISE = np.random.default_rng(7).integers(0, 256, (67, 131, 3), dtype=np.uint8)
RAMP = np.indices((256, 256)).sum(axis=0).astype(np.uint8)
IMAGES = {
    "noise": NOISE,
    "one pixel": NOISE[:1, :1],
    "one row": NOISE[:1],
    "one column": NOISE[:, :1],
    "black": np.zeros((40, 30, 3), np.uint8),
    "white": np.full((40, 30, 3), 255, np.uint8),
    "two colours": (NOISE > 127).astype(np.uint8) * 255,
    "grey": np.repeat(NOISE[..., :1], 3, axis=2),
    "ramps": np.stack([RAMP, RAMP.T[::-1], 255 - RAMP], axis=2),
    "a view": NOISE[::-2, ::3],
}


def png_header(width: int, height: int, *, depth: int = 8, colour: int = 2) -> bytes:
    header = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return header + b"\x00\x00\x00\x00\x00\x00\x00\x00IEND\xaeB\x60\x82"


def webp_header(width: int, height: int) -> bytes:
    bits = ((width - 1) | (height - 1) << 14).to_bytes(4, "little")
    return b"RIFF\x12\x00\x00\x00WEBPVP8L\x05\x00\x00\x00\x2f" + bits + b"\x00"


def damage(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", IMAGES)
def test_image_comes_back_bit_for_bit(name: str, codec: Codec) -> None:
    data = encode_image(IMAGES[name], codec)
    np.testing.assert_array_equal(decode_image(data), IMAGES[name])
    assert decode_image(data).dtype == np.uint8
    assert encode_image(IMAGES[name], codec) == data


@pytest.mark.parametrize("codec", CODECS)
def test_coded_image_carries_no_metadata(codec: Codec) -> None:
    data = encode_image(NOISE, codec)
    for tag in (b"EXIF", b"eXIf", b"XMP ", b"ICCP", b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"tIME", b"pHYs", b"VP8X"):
        assert tag not in data[:64] + data[-64:]


def test_widest_webp_passes_and_one_more_is_refused() -> None:
    widest = np.zeros((1, MAX_SIDE, 3), np.uint8)
    assert decode_image(encode_image(widest)).shape == widest.shape
    with pytest.raises(ValueError, match="16384x1; choose png"):
        encode_image(np.zeros((1, MAX_SIDE + 1, 3), np.uint8))
    assert decode_image(encode_image(np.zeros((1, MAX_SIDE + 1, 3), np.uint8), "png")).shape[1] == MAX_SIDE + 1


@pytest.mark.parametrize(
    "image",
    [NOISE[..., 0], NOISE[..., :2], NOISE[:0], NOISE.astype(np.float32), NOISE.astype(np.int16), NOISE[None]],
    ids=["grey", "two channels", "no rows", "float32", "int16", "batch"],
)
def test_what_is_no_rgb_image_is_refused(image: NDArray[Any]) -> None:
    for function in (encode_image, pixels_sha256):
        with pytest.raises(ValueError, match="expected uint8"):
            function(image)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff\xe0" + bytes(100),
        b"GIF89a" + bytes(100),
        b"RIFF\x12\x00\x00\x00WEBPVP8 " + bytes(20),
        b"RIFF\x12\x00\x00\x00WEBPVP8X" + bytes(20),
        b"RIFF\x12\x00\x00\x00WEBPVP8L\x05\x00\x00\x00\x2f",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        webp_header(16384, 16384),
        png_header(0, 5),
        png_header(30000, 30000),
        png_header(2**31 - 1, 2**31 - 1),
        png_header(8, 8, colour=6),
        png_header(8, 8, colour=3),
        png_header(8, 8, depth=16),
        png_header(8, 8),
        webp_header(8, 8),
    ],
)
def test_bytes_that_are_not_our_image_are_refused(data: bytes) -> None:
    with pytest.raises(ShardError):
        decode_image(data)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_image_cut_short_is_refused(codec: Codec, share: float) -> None:
    data = encode_image(NOISE, codec)
    with pytest.raises(ShardError):
        decode_image(data[: int(len(data) * share)])


@pytest.mark.parametrize("codec", CODECS)
def test_damaged_image_is_refused_or_decodes_to_something_else_but_never_crashes(codec: Codec) -> None:
    data = encode_image(NOISE, codec)
    for position in range(0, len(data), max(1, len(data) // 60)):
        try:
            decoded = decode_image(damage(data, position))
        except ShardError:
            continue
        assert decoded.dtype == np.uint8
        assert not np.array_equal(decoded, NOISE)


def test_every_step_of_depth_comes_back() -> None:
    depth = (np.arange(65536, dtype=np.float32) / np.float32(65535)).reshape(256, 256)
    np.testing.assert_array_equal(decode_depth(encode_depth(depth)), depth)


def test_depth_is_rounded_once() -> None:
    depth = np.random.default_rng(7).random((50, 70), dtype=np.float32)
    once = decode_depth(encode_depth(depth))
    assert np.abs(once - depth).max() <= 0.5001 / 65535
    np.testing.assert_array_equal(decode_depth(encode_depth(once)), once)


@pytest.mark.parametrize("value", [-0.01, 1.01, np.nan, np.inf])
def test_depth_outside_its_range_is_refused(value: float) -> None:
    depth = np.zeros((4, 4), np.float32)
    depth[2, 1] = value
    with pytest.raises(ValueError, match=r"depth must be in \[0, 1\]"):
        encode_depth(depth)


@pytest.mark.parametrize("name", ["noise", "black", "one pixel"])
def test_labels_come_back(name: str) -> None:
    labels = IMAGES[name][..., 0]
    np.testing.assert_array_equal(decode_labels(encode_labels(labels)), labels)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_frames_come_back(count: int) -> None:
    frames = np.random.default_rng(7).integers(0, 256, (count, 9, 13, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode_frames(encode_frames(frames), count), frames)


def test_another_number_of_frames_is_refused() -> None:
    with pytest.raises(ShardError, match="9 rows are not 2 frames"):
        decode_frames(encode_frames(np.zeros((3, 3, 4, 3), np.uint8)), 2)


@pytest.mark.parametrize(
    ("decoder", "data"),
    [
        (decode_depth, encode_labels(RAMP)),
        (decode_depth, encode_image(NOISE, "png")),
        (decode_labels, encode_depth(np.zeros((4, 4), np.float32))),
        (decode_labels, encode_image(NOISE)),
        (decode_image, encode_labels(RAMP)),
    ],
)
def test_one_kind_is_not_read_as_another(decoder: Callable[[bytes], object], data: bytes) -> None:
    with pytest.raises(ShardError):
        decoder(data)


def test_hash_of_pixels_does_not_depend_on_codec_or_layout() -> None:
    hashes = {pixels_sha256(decode_image(encode_image(NOISE, codec))) for codec in CODECS}
    assert hashes == {pixels_sha256(np.asfortranarray(NOISE))}


def test_hash_of_pixels_tells_shape_and_values_apart() -> None:
    other = NOISE.copy()
    other[3, 4, 1] ^= 1
    turned = NOISE.reshape(NOISE.shape[1], NOISE.shape[0], 3)
    assert len({pixels_sha256(image) for image in (NOISE, other, turned)}) == 3
