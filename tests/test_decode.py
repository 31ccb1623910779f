import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageCms

from storage.errors import SourceError
from tasks.decode import decode, format_of

PHOTOGRAPHS = Path(os.environ.get("PAIRFORGE_PHOTOGRAPHS", Path(__file__).parents[2] / "shared/data"))
ODD = sorted((PHOTOGRAPHS / "odd").glob("*")) if (PHOTOGRAPHS / "odd").is_dir() else []
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")
REASONS = {
    "not_an_image",
    "unsupported_format",
    "too_small",
    "too_wide",
    "too_many_pixels",
    "truncated",
    "corrupt",
    "transparent",
    "few_colours",
    "unknown_colours",
}


def photograph(height=96, width=128):
    return np.ascontiguousarray(skimage.data.astronaut()[100 : 100 + height, 150 : 150 + width])


def coded(image, name="PNG", **options):
    stream = io.BytesIO()
    picture = image if isinstance(image, PIL.Image.Image) else PIL.Image.fromarray(image)
    picture.save(stream, name, **options)
    return stream.getvalue()


def reason_of(data, **options):
    with pytest.raises(SourceError) as caught:
        decode(data, **options)
    assert str(caught.value)
    return caught.value.reason


def outcome_of(data):
    try:
        decode(data)
    except SourceError as error:
        return error.reason
    return "decoded"


def png_chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_with(chunk, image=None):
    plain = coded(photograph() if image is None else image)
    return plain[:33] + chunk + plain[33:]


def profile(primaries, gamma=2.2):
    """A version 2 matrix profile: XYZ columns of RGB under D50, one power law."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    xyz = [b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in column)) for column in primaries]
    white = b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1.0, 0.8249)))
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78) + bytes(3)
    items = [(b"desc", text), (b"wtpt", white), *zip((b"rXYZ", b"gXYZ", b"bXYZ"), xyz, strict=True)]
    items += [(name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")]
    table, body, offset = b"", b"", 128 + 4 + 12 * len(items)
    for name, item in items:
        table += struct.pack(">4sII", name, offset + len(body), len(item))
        body += item + bytes(-len(item) % 4)
    header = struct.pack(">I4sI4s4s4s", offset + len(body), bytes(4), 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061) + bytes(48)
    return header[:128] + struct.pack(">I", len(items)) + table + body


ADOBE_RGB = profile([(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)], 2.19921875)


@pytest.mark.parametrize("name", FORMATS)
def test_every_supported_format_is_told_by_its_bytes_and_decoded(name):
    options = {"lossless": True} if name == "WEBP" else {"quality": 95, "subsampling": 0} if name == "JPEG" else {}
    decoded = decode(coded(photograph(), name, **options))
    assert (decoded.format, decoded.image.dtype, decoded.image.flags.c_contiguous) == (name.lower(), np.uint8, True)
    largest = np.abs(decoded.image.astype(int) - photograph()).max()
    assert largest == 0 or (name == "JPEG" and largest < 40)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not_an_image"),
        (b"Hello, I am a text file.\n" * 9, "not_an_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image"),
        (b"BM is how this sentence begins, which makes it no bitmap", "not_an_image"),
        (b"GIF89a" + bytes(40), "unsupported_format"),
        (bytes(4) + b"ftypavif" + bytes(40), "unsupported_format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "unsupported_format"),
        (b"\x89PNG\r\n\x1a\n", "corrupt"),
        (b"\xff\xd8\xff\xe0", "corrupt"),
    ],
)
def test_what_is_no_photograph_is_rejected_by_its_reason(data, reason):
    assert reason_of(data) == reason


def test_eps_is_never_handed_to_ghostscript():
    with pytest.raises(SourceError, match="not a JPEG"):
        format_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["PNG", "WEBP", "TIFF"])
def test_orientation_is_undone(orientation, name):
    upright = PIL.Image.fromarray(photograph())
    turns = PIL.Image.Transpose
    stored = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_90,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_270,
    }
    turned = upright.transpose(stored[orientation]) if orientation > 1 else upright
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if name == "WEBP" else {}
    assert np.array_equal(decode(coded(turned, name, exif=exif, **options)).image, photograph())


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_broken_exif_counts_as_upright(exif):
    assert decode(coded(photograph(), "JPEG", exif=exif)).image.shape == photograph().shape


def adobe_to_srgb(codes):
    """Adobe RGB (1998) to sRGB by its definition: 563/256 power law, own primaries, white point D65 for both."""
    to_xyz = np.array([[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]])
    from_xyz = np.array([[3.24045, -1.53714, -0.49853], [-0.96927, 1.87601, 0.04156], [0.05564, -0.20403, 1.05723]])
    light = np.clip(from_xyz @ to_xyz @ (np.array(codes) / 255) ** 2.19921875, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize(
    "adobe", [(255, 255, 255), (128, 128, 128), (0, 0, 255), (200, 100, 50), (100, 150, 100), (60, 90, 160)]
)
def test_wide_gamut_becomes_srgb(adobe):
    flat = np.broadcast_to(np.array(adobe, np.uint8), (16, 16, 3))
    decoded = decode(coded(np.array(flat), icc_profile=ADOBE_RGB))
    assert decoded.notes == ("icc",)
    assert np.abs(decoded.image[0, 0] - adobe_to_srgb(adobe)).max() <= 2


def test_a_profile_that_is_srgb_changes_no_byte():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    decoded = decode(coded(photograph(), icc_profile=srgb))
    assert np.array_equal(decoded.image, photograph())
    assert decoded.notes == ()


@pytest.mark.parametrize("broken", [b"garbage" * 40, ADOBE_RGB[:200], ADOBE_RGB[:16] + b"CMYK" + ADOBE_RGB[20:]])
def test_a_broken_or_foreign_profile_is_ignored_with_a_note(broken):
    decoded = decode(coded(photograph(), icc_profile=broken))
    assert np.array_equal(decoded.image, photograph())
    assert decoded.notes == ("profile",)


def test_cmyk_without_profile_has_no_known_colours():
    assert reason_of(coded(PIL.Image.fromarray(photograph()).convert("CMYK"), "JPEG")) == "unknown_colours"


def test_lab_is_converted():
    lab = ImageCms.profileToProfile(
        PIL.Image.fromarray(photograph()),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    decoded = decode(coded(lab, "TIFF"))
    assert np.abs(decoded.image.astype(int) - photograph()).mean() < 2


@pytest.mark.parametrize(
    ("chunk", "reason"),
    [
        (png_chunk(b"gAMA", struct.pack(">I", 45455)), None),
        (png_chunk(b"gAMA", struct.pack(">I", 100000)), "unknown_colours"),
        (png_chunk(b"sRGB", b"\0") + png_chunk(b"gAMA", struct.pack(">I", 100000)), None),
        (png_chunk(b"cICP", bytes([1, 13, 0, 1])), None),
        (png_chunk(b"cICP", bytes([9, 16, 0, 1])), "unknown_colours"),
        (png_chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)), None),
        (
            png_chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)),
            "unknown_colours",
        ),
    ],
)
def test_png_colour_chunks_decide_whether_colours_are_known(chunk, reason):
    data = png_with(chunk)
    if reason:
        assert reason_of(data) == reason
    else:
        assert np.array_equal(decode(data).image, photograph())


def test_16_bit_keeps_the_upper_byte():
    grey = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    decoded = decode(coded(PIL.Image.fromarray(grey)))
    assert np.array_equal(decoded.image[..., 0], (grey >> 8).astype(np.uint8))


@pytest.mark.parametrize("mode", ["P", "1"])
def test_few_colours_are_no_photograph(mode):
    assert reason_of(coded(PIL.Image.fromarray(photograph()).convert(mode))) == "few_colours"


def test_floating_point_pixels_have_no_known_range():
    assert reason_of(coded(PIL.Image.fromarray(photograph()[..., 0].astype(np.float32)), "TIFF")) == "unknown_colours"


@pytest.mark.parametrize(("clear", "kept"), [(0, True), (0.005, True), (0.02, False)])
def test_a_cut_out_is_rejected_and_idle_alpha_dropped(clear, kept):
    alpha = np.full((96, 128, 1), 255, np.uint8)
    alpha.reshape(-1)[: round(clear * alpha.size)] = 0
    data = coded(np.concatenate([photograph(), alpha], axis=2))
    if kept:
        assert np.array_equal(decode(data).image, photograph())
    else:
        assert reason_of(data) == "transparent"


def test_grey_becomes_three_equal_channels():
    decoded = decode(coded(photograph()[..., 0]))
    assert np.array_equal(decoded.image, np.repeat(photograph()[..., :1], 3, axis=2))


def test_first_frame_of_an_animation_is_taken():
    first, second = PIL.Image.fromarray(photograph()), PIL.Image.fromarray(photograph()[::-1].copy())
    data = coded(first, "WEBP", save_all=True, append_images=[second], lossless=True)
    assert np.array_equal(decode(data).image, photograph())


def test_a_header_that_promises_too_much_is_refused_before_decoding():
    header = struct.pack(">IIBBBBB", 12000, 12000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")
    assert reason_of(data) == "too_many_pixels"


def test_an_18_kilobyte_bomb_is_refused_by_its_header():
    header = struct.pack(">IIBBBBB", 16000, 9500, 8, 0, 0, 0, 0)
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(16001 * 950), 9))
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + pixels + png_chunk(b"IEND", b"")
    assert len(data) < 18_000
    assert reason_of(data) == "too_many_pixels"


def test_a_text_chunk_that_inflates_without_end_is_refused():
    bomb = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80 << 20), 9))
    assert reason_of(png_with(bomb)) in {"corrupt", "truncated"}


@pytest.mark.parametrize(
    ("shape", "options", "reason"),
    [
        ((40, 16400), {}, "too_wide"),
        ((40, 50), {"min_side": 41}, "too_small"),
        ((40, 50), {"max_pixels": 1999}, "too_many_pixels"),
    ],
)
def test_size_is_checked(shape, options, reason):
    assert reason_of(coded(np.zeros((*shape, 3), np.uint8)), **options) == reason


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_file_cut_short_is_rejected(name, share):
    data = coded(photograph(), name)
    assert reason_of(data[: int(len(data) * share)]) in {"truncated", "corrupt"}


@pytest.mark.parametrize("name", FORMATS)
def test_mutated_files_are_decoded_or_rejected_and_nothing_else(name):
    rng, data = np.random.default_rng(FORMATS.index(name)), np.frombuffer(coded(photograph(), name), np.uint8)
    for _ in range(100):
        mutant = data.copy()
        places = rng.integers(0, len(data) if rng.random() < 0.5 else 200, rng.integers(1, 12))
        mutant[places] = rng.integers(0, 256, len(places))
        assert outcome_of(mutant.tobytes()) in {*REASONS, "decoded"}


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"BM"]), st.binary(max_size=300))
def test_random_bytes_behind_a_magic_number_are_rejected(magic, rest):
    assert reason_of(magic + rest) in REASONS


def test_nothing_of_the_metadata_is_left():
    exif = PIL.Image.Exif()
    exif[0x013B] = "Ada Lovelace"
    data = coded(photograph(), "JPEG", exif=exif, comment=b"at home")
    decoded = decode(data)
    assert b"Ada Lovelace" in data
    assert type(decoded.image) is np.ndarray
    assert decoded.image.base is None


def test_messages_hold_no_addresses():
    with pytest.raises(SourceError) as caught:
        decode(b"\x89PNG\r\n\x1a\n" + bytes(30))
    assert "0x" not in str(caught.value)


@pytest.mark.skipif(not ODD, reason="the odd files are not beside the project")
def test_every_odd_file_is_decoded_or_rejected():
    reasons = {path.name: outcome_of(path.read_bytes()) for path in ODD}
    assert set(reasons.values()) <= REASONS | {"decoded"}
    assert sum(reason == "decoded" for reason in reasons.values()) > len(ODD) / 3
    assert reasons["sharp__truncated.jpg"] == "truncated"
    assert reasons["pillow__b_reallybig.bmp"] == "too_many_pixels"


@pytest.mark.skipif(not ODD, reason="the odd files are not beside the project")
def test_the_eight_orientations_of_one_photograph_look_the_same():
    images = [
        decode((PHOTOGRAPHS / f"odd/exif-orientati__Landscape_{turn}.jpg").read_bytes()).image for turn in range(1, 9)
    ]
    assert all(image.shape == images[0].shape for image in images)
    assert max(np.abs(image.astype(int) - images[0]).mean() for image in images[1:]) < 6
