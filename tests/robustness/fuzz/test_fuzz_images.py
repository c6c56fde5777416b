"""The header sniffer and the decoder: mutated encodings of every kind, in a process of its own."""

import io

import numpy as np
from fuzz_bytes import damaged
from fuzz_seeds import SEEDS, rle_bmp
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from cvtrain.images.decode import Decoder

_BYTES = {"1": 1 / 8, "L": 1, "P": 1, "LA": 2, "I;16": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}
_MODES = {
    "JPEG": ["L", "RGB", "CMYK"],
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "GIF": ["1", "L", "P", "RGB"],
    "BMP": ["1", "L", "P", "RGB", "RGBA"],
    "WEBP": ["RGB", "RGBA"],
}
_SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))
_EXIF = st.integers(0, 9).map(lambda value: _with_orientation(value)) | st.binary(max_size=60)
_OPTIONS = {
    "JPEG": {
        "quality": st.integers(1, 95),
        "subsampling": st.sampled_from([0, 1, 2]),
        "progressive": st.booleans(),
        "restart_marker_blocks": st.integers(0, 3),
        "dpi": st.just((72, 72)),
        "comment": st.binary(max_size=20),
        "icc_profile": st.binary(max_size=40),
        "exif": _EXIF,
    },
    "PNG": {
        "compress_level": st.integers(0, 9),
        "transparency": st.integers(0, 255),
        "icc_profile": st.binary(min_size=1, max_size=40),
        "dpi": st.just((72, 72)),
        "exif": _EXIF,
    },
    "GIF": {"interlace": st.booleans(), "comment": st.binary(max_size=300)},
    "BMP": {"dpi": st.just((72, 72))},
    "WEBP": {
        "quality": st.integers(0, 100),
        "lossless": st.booleans(),
        "method": st.just(0),
        "exif": _EXIF,
    },
}


def _with_orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif.tobytes()


@st.composite
def pictures(draw, kind):
    """A Pillow image of any mode that files of this kind have."""
    mode, (width, height) = draw(st.sampled_from(_MODES[kind])), draw(_SIZES)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    size = -(-width // 8) * height if mode == "1" else width * height * _BYTES[mode]
    image = Image.frombytes(mode, (width, height), rng.bytes(size))
    if mode == "P":
        image.putpalette(rng.bytes(768))
    return image


@st.composite
def encodings(draw):
    """(kind, size, bytes) of an image file with random contents and options."""
    kind = draw(st.sampled_from(sorted(_MODES)))
    image = draw(pictures(kind))
    options = draw(st.fixed_dictionaries({}, optional=_OPTIONS[kind]))
    if image.mode in ("LA", "RGBA", "I;16", "RGB"):
        options.pop("transparency", None)  # is a colour there
    if kind in ("PNG", "GIF", "WEBP") and image.mode != "I;16" and draw(st.booleans()):
        options |= {"save_all": True, "append_images": [image.rotate(180)]}
    content = io.BytesIO()
    image.save(content, kind, **options)
    return kind, image.size, content.getvalue()


@given(encodings())
def test_what_pillow_writes_is_decoded(drawn):
    kind, size, content = drawn
    decoded = Decoder((6, 9))(content)
    assert decoded.format == kind
    assert sorted((decoded.width, decoded.height)) == sorted(size)
    assert decoded.pixels.shape == (6, 9, 3)


_TURNED = {  # EXIF 2.32, table 6: what is at the top and left of what is stored
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: stored.transpose(1, 0, 2)[:, ::-1],
    7: lambda stored: stored.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda stored: stored.transpose(1, 0, 2)[::-1],
}


@given(_SIZES, st.sampled_from(sorted(_TURNED)), st.sampled_from(["PNG", "WEBP"]))
def test_orientation_turns_the_pixels_themselves(size, orientation, kind):
    stored = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    content = io.BytesIO()
    exif = _with_orientation(orientation)
    Image.fromarray(stored).save(content, kind, lossless=True, exif=exif)
    upright = _TURNED[orientation](stored)
    decoded = Decoder(upright.shape[:2])(content.getvalue())
    np.testing.assert_array_equal(decoded.pixels, upright)
    assert (decoded.height, decoded.width) == upright.shape[:2]


@given(damaged(SEEDS["image"]()))
def test_a_damaged_file_is_decoded_or_refused(child, content):
    child.check("image", content)


@given(encodings().flatmap(lambda drawn: damaged([drawn[2]])))
def test_a_damaged_file_of_any_encoding_is_decoded_or_refused(child, content):
    child.check("image", content)


_SIGNATURES = [
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"\x89PNG\n", b"BM", b"GIF87a", b"GIF89a"),
    *(b"RIFF\0\0\0\0WEBP", b"RIFF\x1e\0\0\0WEBPVP8X", b"RIFF\x1e\0\0\0WEBPVP8L"),
    *(b"II*\0", b"MM\0*", b"\xff\x0a", b"\0\0\0\x0cJXL ", b"8BPS", b"\0\0\1\0", b"%PDF", b"PK\3\4"),
    *(b"\0\0\0\x18ftypavif", b"\0\0\0\x18ftypheic", b"\0\0\0\x18ftypisom"),
    *(b"", b"\0\0", b"version https://git-lfs", b"<svg", b"\xef\xbb\xbf<", b"\x1b[31m"),
]


@given(st.sampled_from(_SIGNATURES), st.binary(max_size=60))
def test_whatever_follows_a_signature(child, signature, rest):
    child.check("image", signature + rest)


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1), st.binary(max_size=40))
@example(50_000_000, 1, b"\0\2\xff\xff" * 9)  # jumps over 255 rows at once
@example(1, 50_000_000, b"\1\1\0\0" * 9)
def test_a_header_may_claim_any_size(child, width, height, body):
    child.check("image", rle_bmp(width, height, body))
