"""JPEG files: what encoders make, taken apart and put together again by markers, and damaged.

The standard: ITU-T T.81, https://www.w3.org/Graphics/JPEG/itu-t81.pdf
"""

import io
import re
import struct
from collections.abc import Iterator

import numpy as np
from odd_pngs import CUT_OFF
from picture import Row, smooth
from PIL import Image

UNREAD = {"bad": "which cvtrain does not read", "advice": "Export it as JPEG or PNG"}
ADOBE_CMYK, ADOBE_YCCK = 0, 2
LOSS = 5
"""Grey levels that the quality of these files costs where the picture changes fastest."""


def jpeg(pixels: np.ndarray, mode: str | None = None, **options) -> bytes:
    """As Pillow encodes it, with little loss."""
    image = (
        Image.fromarray(pixels)
        if mode is None
        else Image.frombytes(mode, pixels.shape[1::-1], pixels.tobytes())
    )
    stream = io.BytesIO()
    image.save(stream, "JPEG", **{"quality": 98, "subsampling": 0} | options)
    return stream.getvalue()


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def with_segments(content: bytes, *segments: bytes) -> bytes:
    """The same file with more segments at its start."""
    return content[:2] + b"".join(segments) + content[2:]


def with_frame(content: bytes, *, marker: int = 0xC0, **at: int) -> bytes:
    """The same file with another kind of frame, and other bytes in its header: b0, b1, ..."""
    start = content.index(b"\xff\xc0")
    changed = bytearray(content)
    changed[start + 1] = marker
    for place, value in at.items():
        changed[start + 4 + int(place[1:])] = value
    return bytes(changed)


def turned(orientation: int, *, order: str = "<", kind: int = 3) -> bytes:
    """An EXIF segment that says how the picture is to be turned, as BYTE (1), SHORT or LONG (4)."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    value = struct.pack(order + {1: "B", 3: "H", 4: "L"}[kind], orientation)
    entry = struct.pack(order + "HHL", 0x0112, kind, 1) + value.ljust(4, b"\0")
    return segment(0xE1, b"Exif\0\0" + mark + struct.pack(order + "LH", 8, 1) + entry + bytes(4))


TURN = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}
"""What a viewer does with each orientation, by the table of the EXIF standard."""


def jpegs() -> Iterator[Row]:
    yield from kinds()
    yield from beside_the_pixels()
    yield from damaged()


def kinds() -> Iterator[Row]:
    for number, subsampling in enumerate(("4:4:4", "4:2:2", "4:2:0")):
        pixels = smooth(48, 40)[number:, ::-1]
        content = jpeg(pixels, subsampling=subsampling)
        # Chroma at half the size costs a few levels where this picture changes fastest.
        yield Row(
            f"sampled{number}.jpg", content, pixels=pixels, within=LOSS if number == 0 else 16
        )
        yield Row(
            f"sampled{number}-again.JPG", jpeg(pixels[::-1], subsampling=subsampling), within=1
        )
    pixels = smooth(40, 56)
    yield Row("progressive.jpeg", jpeg(pixels, progressive=True), pixels=pixels, within=LOSS)
    yield Row("optimised.jfif", jpeg(pixels[1:], optimize=True), pixels=pixels[1:], within=LOSS)
    yield Row("grey.jpe", jpeg(pixels[2:, :, 0]), pixels=pixels[2:, :, [0, 0, 0]], within=LOSS)
    content = jpeg(pixels[3:], restart_marker_blocks=3)
    yield Row("restarts.jpg", content, pixels=pixels[3:], within=LOSS)
    content = jpeg(pixels[4:], restart_marker_rows=1, subsampling="4:2:0")
    yield Row("restarts-by-row.jpg", content, within=1)
    content = jpeg(pixels[5:, :, 0], restart_marker_blocks=5)
    yield Row("restarts-grey.jpg", content, within=1)
    content = jpeg(pixels[6:], progressive=True, restart_marker_blocks=5)
    yield Row("restarts-progressive.jpg", content, within=1)
    # Any bytes are a stream of the arithmetic decoder, so those of Huffman's coder do.
    yield Row("arithmetic.jpg", with_frame(jpeg(pixels[7:]), marker=0xC9), within=1)
    yield Row(
        "really.png",
        jpeg(pixels[8:]),
        pixels=pixels[8:],
        within=LOSS,
        warned="JPEG by its content",
        advice="end in .jpg",
    )
    coarse = jpeg(pixels[9:], quality=1)
    yield Row("coarse.jpg", coarse, within=1)
    inks = np.dstack([smooth(32, 32) // 2, np.full((32, 32), 40, np.uint8)])
    cmyk = jpeg(inks, "CMYK")
    kept = (255 - inks[..., :3].astype(int)) * (255 - inks[..., 3:].astype(int)) / 255
    place = cmyk.index(b"Adobe") + 11
    for kind, name in ((ADOBE_CMYK, "cmyk"), (ADOBE_YCCK, "ycck")):
        content = cmyk[:place] + bytes([kind]) + cmyk[place + 1 :]
        pixels = np.rint(kept).astype(np.uint8) if kind == ADOBE_CMYK else None
        yield Row(
            f"{name}.jpg",
            content,
            pixels=pixels,
            within=LOSS,
            warned="CMYK colours",
            advice="Look at it",
        )
    stored = smooth(24, 24)
    as_rgb = jpeg(stored, keep_rgb=True)
    yield Row("adobe-rgb.jpg", as_rgb, pixels=stored, within=LOSS)


def beside_the_pixels() -> Iterator[Row]:
    pixels = smooth(32, 48)
    for orientation, turn in TURN.items():
        content = jpeg(pixels[orientation:])
        shown = turn(pixels[orientation:])
        order = "<>"[orientation % 2]
        content = with_segments(content, turned(orientation, order=order))
        yield Row(f"turned{orientation}.jpg", content, pixels=shown, within=LOSS)
    for kind, name in {1: "byte", 4: "long"}.items():
        content = with_segments(jpeg(pixels[8 + kind :]), turned(6, order=">", kind=kind))
        shown = TURN[6](pixels[8 + kind :])
        yield Row(f"turned-by-{name}.jpg", content, pixels=shown, within=LOSS)

    def with_segment(name, number, data, *, marker=0xE1):
        mine = pixels[:, number:]
        return Row(name, with_segments(jpeg(mine), segment(marker, data)), pixels=mine, within=LOSS)

    exif = b"Exif\0\0"
    yield with_segment("exif-empty.jpg", 1, exif)
    yield with_segment("exif-cut.jpg", 2, exif + b"II*\0")
    yield with_segment("exif-far.jpg", 3, exif + b"II*\0\xff\xff\xff\xff")
    many = b"MM\0*\0\0\0\x08\xff\xff" + b"\x01\x1a\0\x05\0\0\0\x01\xff\xff\xff\xff" * 3
    yield with_segment("exif-many.jpg", 4, exif + many)
    no_such_turn = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0"
    yield with_segment("exif-99.jpg", 5, exif + no_such_turn)
    itself = b"II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0"
    yield with_segment("exif-loop.jpg", 6, exif + itself)
    yield with_segment("profile.jpg", 7, b"ICC_PROFILE\0\1\1" + bytes(3000), marker=0xE2)
    yield with_segment("profile-lost.jpg", 8, b"ICC_PROFILE\0\2\3" + bytes(3000), marker=0xE2)
    yield with_segment("comment.jpg", 9, b"x" * 65_000, marker=0xFE)
    yield with_segment("photoshop.jpg", 10, b"Photoshop 3.0\0" + b"8BIM" * 99, marker=0xED)
    thumbnail = jpeg(smooth(12, 16)[::-1])
    yield with_segment("thumbnail.jpg", 11, exif + b"II*\0" + thumbnail)
    small = b"JFXX\0\x13\2\2" + bytes(12)
    yield with_segment("jfxx.jpg", 12, small, marker=0xE0)
    whole = jpeg(pixels[:, 13:])
    yield Row("two-in-one.jpg", whole + jpeg(smooth(12, 16)), pixels=pixels[:, 13:], within=LOSS)
    stream = io.BytesIO()
    left, right = (Image.fromarray(pixels[:, i:]) for i in (14, 20))
    left.save(stream, "MPO", save_all=True, append_images=[right], quality=98, subsampling=0)
    yield Row("mpo.jpg", stream.getvalue(), pixels=pixels[:, 14:], within=LOSS)
    whole = jpeg(pixels[:, 15:])
    yield Row("garbage-behind.jpg", whole + b"hello" * 100, pixels=pixels[:, 15:], within=LOSS)
    whole = jpeg(pixels[:, 17:], restart_marker_blocks=2)
    film = np.random.default_rng(0).bytes(1_000) + b"\xff\xda\xff\xd0" * 500 + b"\xff\xd9"
    yield Row("film-behind.jpg", whole + film, pixels=pixels[:, 17:], within=LOSS)
    whole = jpeg(pixels[:, 18:])
    junk = whole[:20] + b"hello\xff\0" + whole[20:]
    yield Row("junk-between.jpg", junk, pixels=pixels[:, 18:], within=LOSS)
    whole = jpeg(pixels[:, 16:])
    padded = whole[:2] + b"\xff" * 20 + whole[2:]
    yield Row("padded.jpg", padded, pixels=pixels[:, 16:], within=LOSS)


def damaged() -> Iterator[Row]:
    pixels = smooth(64, 64)
    whole = jpeg(pixels)
    scan = whole.index(b"\xff\xda")
    middle = (scan + len(whole)) // 2
    yield Row("only-begun.jpg", whole[:3], **CUT_OFF)
    yield Row("cut-in-header.jpg", whole[:100], **CUT_OFF)
    yield Row("cut-at-scan.jpg", whole[: scan + 4], **CUT_OFF)
    yield Row("cut-in-pixels.jpg", whole[:middle], **CUT_OFF)
    yield Row("cut-at-end.jpg", whole[:-2], **CUT_OFF)
    yield Row("cut-by-a-byte.jpg", whole[:-1], **CUT_OFF)
    yield Row("zeros-behind.jpg", whole[:middle] + bytes(len(whole) - middle), **CUT_OFF)
    grey_below = {"warned": "grey that stands for missing data", "advice": "replace it"}
    yield Row("cut-and-ended.jpg", whole[:middle] + b"\xff\xd9", within=1, **grey_below)
    progressive = jpeg(pixels[::-1], progressive=True)
    yield Row("progressive-cut.jpg", progressive[: len(progressive) // 2], **CUT_OFF)
    marked = jpeg(pixels, restart_marker_blocks=2)
    places = [match.span() for match in re.finditer(rb"\xff[\xd0-\xd7]", marked)]
    lost = {"bad": "restart markers are there", "advice": "intact copy"}
    yield Row("all-restarts-lost.jpg", re.sub(rb"\xff[\xd0-\xd7]", b"", marked), **lost)
    yield Row("one-part-lost.jpg", marked[: places[1][0]] + marked[places[2][0] :], **lost)
    yield Row("restarts-cut.jpg", marked[: places[-2][0]] + b"\xff\xd9", **lost)
    yield Row("12-bit.jpg", with_frame(whole, marker=0xC1, b0=12), **UNREAD | {"bad": "of 12 bits"})
    yield Row("lossless.jpg", with_frame(whole, marker=0xC3), **UNREAD | {"bad": "lossless JPEG"})
    yield Row("jpeg-ls.jpg", with_frame(whole, marker=0xF7), **UNREAD | {"bad": "JPEG-LS file"})
    yield Row(
        "hierarchical.jpg", with_frame(whole, marker=0xC5), **UNREAD | {"bad": "hierarchical JPEG"}
    )
    damage = {"bad": "damaged JPEG", "advice": "intact copy"}
    yield Row("no-height.jpg", with_frame(whole, b1=0, b2=0), **damage)
    yield Row("no-width.jpg", with_frame(whole, b3=0, b4=0), **damage)
    yield Row("two-colours.jpg", with_frame(whole, b5=2), **damage)
    yield Row("no-sampling.jpg", with_frame(whole, b7=0), **damage)
    huge = with_frame(whole, b1=0xFF, b2=0xDC, b3=0xFF, b4=0xDC)
    yield Row("huge.jpg", huge, bad="more than 200 million pixels", advice="smaller size")
    start = progressive.rindex(b"\xff\xda")
    scans = progressive[:-2] + progressive[start:-2] * 100 + b"\xff\xd9"
    yield Row("scan-bomb.jpg", scans, bad="more than 100 scans", advice="data convert")
    no_tables = re.sub(rb"\xff\xdb\0\x43.{65}", b"", whole, flags=re.DOTALL)
    yield Row("no-tables.jpg", no_tables, **damage)
    yield Row("begun-twice.jpg", whole[:2] + whole, **damage)
    yield Row("a-line-before.jpg", b"\n" + whole, bad="no image but", advice="replace it")
