"""BMP, GIF and WebP files of all kinds."""

import io
import struct
from collections.abc import Iterator

import numpy as np
from odd_jpegs import turned
from picture import SIZE, Row, as_rgb, counting, over_white, smooth
from PIL import Image

INTACT = {"advice": "intact copy"}


def bmp(
    rows: list[bytes],
    width: int,
    bits: int,
    *,
    compression=0,
    between=b"",
    top_down=False,
    height=None,
) -> bytes:
    """A BMP file of rows from top to bottom; each is padded to four bytes unless compressed."""
    height = len(rows) if height is None else height
    padded = [row + bytes(-len(row) % 4) for row in rows] if compression in (0, 3) else rows
    data = b"".join(padded if top_down else padded[::-1])
    size = struct.pack(
        "<LllHHLLllLL",
        40,
        width,
        -height if top_down else height,
        1,
        bits,
        compression,
        len(data),
        0,
        0,
        0,
        0,
    )
    start = 14 + 40 + len(between)
    return b"BM" + struct.pack("<LHHL", start + len(data), 0, 0, start) + size + between + data


def bmps() -> Iterator[Row]:
    rgb = 255 - counting(256, channels=3)
    bgr = [row[:, ::-1].tobytes() for row in rgb]
    yield Row("bmp24.bmp", bmp(bgr, 24, 24), pixels=rgb)
    yield Row("bmp24-down.bmp", bmp(bgr[::-1], 24, 24, top_down=True), pixels=rgb[::-1])
    four = [
        np.dstack([row[None, :, ::-1], np.zeros((1, 24, 1), np.uint8)]).tobytes()
        for row in rgb[:, ::-1]
    ]
    yield Row("bmp32.bmp", bmp(four, 24, 32), pixels=rgb[:, ::-1])
    for bits in (1, 4, 8):
        index = counting(2**bits)
        palette = np.random.default_rng(bits + 60).integers(0, 256, (2**bits, 4), np.uint8)
        packed = np.unpackbits(index, axis=-1)[..., 8 - bits :].reshape(len(index), -1)
        rows = [np.packbits(row).tobytes() for row in packed]
        content = bmp(rows, 24, bits, between=palette.tobytes())
        yield Row(f"bmp{bits}.bmp", content, pixels=palette[index[..., 0], 2::-1])
    for name, bits, widths in (("555", 15, (5, 5, 5)), ("565", 16, (5, 6, 5))):
        parts = [counting(2**width) for width in widths]
        places = (bits - widths[0], widths[2], 0)
        words = sum(part.astype("<u2") << place for part, place in zip(parts, places, strict=True))
        masks = [(2**width - 1) << place for width, place in zip(widths, places, strict=True)]
        content = bmp(
            [row.astype("<u2").tobytes() for row in words],
            24,
            16,
            compression=3,
            between=struct.pack("<LLL", *masks),
        )
        pixels = np.dstack(
            [
                np.rint(part * (255 / (2**width - 1)))
                for part, width in zip(parts, widths, strict=True)
            ]
        )
        yield Row(f"bmp-{name}.bmp", content, pixels=pixels.astype(np.uint8), within=4)
    palette = np.random.default_rng(70).integers(0, 256, (256, 4), np.uint8)
    index = np.repeat(np.arange(96, dtype=np.uint8).reshape(16, 6), 4, axis=1)
    coded = [b"".join(bytes([4, value]) for value in row[::4]) + b"\0\0" for row in index]
    coded[0] += b"\0\1"  # stored last: the end of the bitmap
    yield Row(
        "rle8.bmp",
        bmp(coded, 24, 8, compression=1, between=palette.tobytes()),
        pixels=palette[index, 2::-1],
    )
    nibbles = index % 16
    coded = [b"".join(bytes([4, value * 17]) for value in row[::4]) + b"\0\0" for row in nibbles]
    coded[0] += b"\0\1"
    yield Row(
        "rle4.bmp",
        bmp(coded, 24, 4, compression=2, between=palette[:16].tobytes()),
        pixels=palette[nibbles, 2::-1],
    )
    absolute = [b"\0\x18" + bytes(row) + b"\0\0" for row in index + 100]
    absolute[0] += b"\0\1"
    yield Row(
        "rle8-absolute.bmp",
        bmp(absolute, 24, 8, compression=1, between=palette.tobytes()),
        pixels=palette[index + 100, 2::-1],
    )
    core = struct.pack("<LHHHH", 12, 24, 16, 1, 24)
    data = b"".join(row[::-1] for row in bgr[::-1])
    os2 = b"BM" + struct.pack("<LHHL", 26 + len(data), 0, 0, 26) + core + data
    yield Row("os2.bmp", os2, pixels=rgb[:, ::-1, ::-1])
    yield Row(
        "really.gif",
        bmp(bgr[1:], 24, 24),
        pixels=rgb[1:],
        warned="BMP by its content",
        advice="end in .bmp",
    )
    whole = bmp(bgr, 24, 24)
    yield Row("cut-in-header.bmp", whole[:20], bad="damaged BMP", **INTACT)
    yield Row("cut-in-pixels.bmp", whole[:-500], bad="damaged BMP", **INTACT)
    yield Row("cut-by-a-byte.bmp", whole[:-1], bad="damaged BMP", **INTACT)
    coded = bmp(
        [b"\4\1" * 6 + b"\0\0"] * 9 + [b"\0\1"],
        24,
        8,
        compression=1,
        between=palette.tobytes(),
        height=16,
    )
    yield Row("rle-cut.bmp", coded[:-60], bad="damaged BMP", **INTACT)
    yield Row("no-width.bmp", bmp([b""], 0, 24, height=16), bad="damaged BMP", **INTACT)
    yield Row("bits7.bmp", bmp(bgr, 24, 7), bad="damaged BMP", **INTACT)
    yield Row("jpeg-inside.bmp", bmp(bgr, 24, 24, compression=4), bad="damaged BMP", **INTACT)
    yield Row(
        "huge.bmp",
        bmp(bgr, 100_000, 24, height=100_000),
        bad="more than 50 million pixels",
        advice="smaller size",
    )
    yield Row("said-bm.bmp", b"BM, said the text", bad="damaged BMP", **INTACT)


def gif_frame(
    index: np.ndarray, *, left=0, top=0, palette=b"", interlaced=False, control=b""
) -> bytes:
    """One frame of a GIF: numbers below 128, coded without compression."""
    rows = list(index)
    if interlaced:
        rows = rows[0::8] + rows[4::8] + rows[2::4] + rows[1::2]
    height, width = index.shape
    flags = (0x40 if interlaced else 0) | (0x86 if palette else 0)
    # A code that clears the table after every 100 keeps all of them at 8 bits: one byte each.
    flat = b"".join(bytes(row) for row in rows)
    codes = b"".join(b"\x80" + flat[i : i + 100] for i in range(0, len(flat), 100)) + b"\x81"
    blocks = b"".join(
        bytes([len(part)]) + part for i in range(0, len(codes), 255) if (part := codes[i : i + 255])
    )
    return (
        control
        + b","
        + struct.pack("<HHHHB", left, top, width, height, flags)
        + palette
        + b"\7"
        + blocks
        + b"\0"
    )


def gif(*frames: bytes, palette: bytes, size=SIZE, version=b"GIF89a", end=b";") -> bytes:
    flags = 0xF6 if palette else 0
    screen = struct.pack("<HHBBB", size[1], size[0], flags, 0, 0)
    return version + screen + palette + b"".join(frames) + end


def control(*, hidden: int | None = None, disposal=0) -> bytes:
    flags = disposal << 2 | (hidden is not None)
    return b"!\xf9\4" + struct.pack("<BHB", flags, 10, hidden or 0) + b"\0"


def gifs() -> Iterator[Row]:
    index = counting(128)[..., 0]
    colours = np.random.default_rng(80).integers(0, 256, (128, 3), np.uint8)
    other = np.random.default_rng(81).integers(0, 256, (128, 3), np.uint8)
    palette, local = colours.tobytes(), other.tobytes()
    shown = colours[index]
    yield Row("gif89.gif", gif(gif_frame(index), palette=palette), pixels=shown)
    yield Row(
        "gif87.gif",
        gif(gif_frame(index[::-1]), palette=palette, version=b"GIF87a"),
        pixels=shown[::-1],
    )
    yield Row(
        "interlaced.gif",
        gif(gif_frame(index[:, ::-1], interlaced=True), palette=palette),
        pixels=shown[:, ::-1],
    )
    content = gif(gif_frame(index, palette=local), palette=palette)
    yield Row("local-palette.gif", content, pixels=other[index])
    content = gif(gif_frame(index[::-1], palette=local), palette=b"")
    yield Row("only-local.gif", content, pixels=other[index[::-1]])
    hidden = gif(gif_frame(index, control=control(hidden=5)), palette=palette)
    yield Row("hidden.gif", hidden, pixels=over_white(shown, (index != 5).astype(float)))
    comment = b"!\xfe" + b"\5hello" * 3 + b"\0"
    turned_over = np.rot90(index, 2)
    yield Row(
        "comment.gif",
        gif(comment, gif_frame(turned_over), palette=palette),
        pixels=colours[turned_over],
    )
    mine = (index + 1) % 128
    yield Row(
        "no-trailer.gif", gif(gif_frame(mine), palette=palette, end=b""), pixels=colours[mine]
    )
    mine = (index + 2) % 128
    animated = gif(
        gif_frame(mine),
        gif_frame(index[:4, :4], left=9, top=9, control=control(disposal=2)),
        palette=palette,
    )
    yield Row(
        "animated.gif", animated, pixels=colours[mine], warned="first frame", advice="Look at it"
    )
    mine = (index + 3) % 128
    part = gif(
        gif_frame(mine[4:12, 6:18], left=6, top=4, control=control(hidden=127)), palette=palette
    )
    alpha = np.zeros(SIZE)
    alpha[4:12, 6:18] = mine[4:12, 6:18] != 127
    yield Row("small-frame.gif", part, pixels=over_white(colours[mine], alpha))
    mine = (index + 4) % 128
    yield Row(
        "large-frame.gif", gif(gif_frame(mine), palette=palette, size=(4, 5)), pixels=colours[mine]
    )
    mine = (index + 5) % 128
    yield Row(
        "no-screen.gif", gif(gif_frame(mine), palette=palette, size=(0, 0)), pixels=colours[mine]
    )
    grey = gif(gif_frame(mine), palette=b"")
    yield Row("no-palette.gif", grey, pixels=as_rgb(mine[..., None].astype(np.uint8)))
    mine = (index + 6) % 128
    yield Row(
        "really.webp",
        gif(gif_frame(mine), palette=palette),
        pixels=colours[mine],
        warned="GIF by its content",
        advice="end in .gif",
    )
    whole = gif(gif_frame(index), palette=palette)
    yield Row("cut-in-header.gif", whole[:9], bad="damaged GIF", **INTACT)
    yield Row("cut-in-palette.gif", whole[:100], bad="damaged GIF", **INTACT)
    yield Row("cut-in-pixels.gif", whole[:-100], bad="damaged GIF", **INTACT)
    yield Row("no-frame.gif", gif(palette=palette), bad="damaged GIF", **INTACT)
    huge = gif(gif_frame(index), palette=palette, size=(65_535, 65_535))
    yield Row("huge.gif", huge, bad="more than 50 million pixels", advice="smaller size")
    far = gif(gif_frame(index, left=65_000, top=65_000), palette=palette)
    yield Row("far-frame.gif", far, bad="more than 50 million pixels", advice="smaller size")


def webp(pixels: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", **options)
    return stream.getvalue()


def webps() -> Iterator[Row]:
    exact = {"lossless": True, "exact": True}
    rgb = counting(256, channels=3)[::-1, ::-1]
    yield Row("lossless.webp", webp(rgb, **exact), pixels=rgb)
    yield Row("lossy.webp", webp(smooth(40, 56), quality=90), within=1)
    alpha = counting(256)[..., ::-1]
    rgba = np.dstack([rgb, alpha])
    yield Row(
        "alpha.webp", webp(rgba, **exact), pixels=over_white(rgb, alpha[..., 0] / 255), within=1
    )
    soft = np.dstack([smooth(32, 32), np.full((32, 32, 1), 102, np.uint8)])
    content = webp(soft, quality=100)
    yield Row(
        "lossy-alpha.webp",
        content,
        pixels=over_white(soft[..., :3], np.full((32, 32), 0.4)),
        within=10,
    )
    exif = turned(6)[4:]
    yield Row("turned.webp", webp(rgb[1:], exif=exif, **exact), pixels=np.rot90(rgb[1:], -1))
    frames = [Image.fromarray(rgb[:, i:]) for i in (1, 2)]
    stream = io.BytesIO()
    frames[0].save(stream, "WEBP", save_all=True, append_images=[frames[0].transpose(0)], **exact)
    yield Row(
        "animated.webp",
        stream.getvalue(),
        pixels=rgb[:, 1:],
        warned="first frame",
        advice="Look at it",
    )
    content = webp(rgb[2:], icc_profile=b"wide" * 99, **exact)
    yield Row("profile.webp", content, pixels=rgb[2:])
    yield Row(
        "really.bmp",
        webp(rgb[3:], **exact),
        pixels=rgb[3:],
        warned="WEBP by its content",
        advice="end in .webp",
    )
    whole = webp(rgb, **exact)
    for name, part in (("header", 14), ("pixels", len(whole) // 2), ("end", len(whole) - 8)):
        yield Row(f"cut-in-{name}.webp", whole[:part], bad="damaged WEBP", **INTACT)
    canvas = struct.pack("<LL", 0, 0)[:1] + bytes(3) + b"\xfe\x3f\0\xfe\x3f\0"
    huge = b"VP8X" + struct.pack("<L", 10) + canvas + whole[12:]
    huge = b"RIFF" + struct.pack("<L", len(huge) + 4) + b"WEBP" + huge
    yield Row("huge.webp", huge, bad="more than 50 million pixels", advice="smaller size")
    yield Row("no-chunk.webp", b"RIFF\4\0\0\0WEBP", bad="damaged WEBP", **INTACT)
