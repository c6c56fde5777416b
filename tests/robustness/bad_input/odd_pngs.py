"""PNG files, written chunk by chunk: all kinds that the standard has, odd ones and damaged ones.

The standard: https://www.w3.org/TR/png-3/
"""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from picture import SIZE, Row, as_rgb, counting, over_white
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CUT_OFF = {"bad": "cut off", "advice": "intact copy"}
EXIF_TURNED = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"


def chunk(kind: bytes, data: bytes, *, checksum_off: int = 0) -> bytes:
    checksum = zlib.crc32(kind + data) ^ checksum_off
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", checksum)


def header(height, width, depth, colour, *, interlaced=0, filters=0) -> bytes:
    return chunk(
        b"IHDR", struct.pack(">LLBBBBB", width, height, depth, colour, 0, filters, interlaced)
    )


def packed(samples: np.ndarray, depth: int) -> list[bytes]:
    """The bytes of each row of (height, width, channels)."""
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in samples]
    bits = np.unpackbits(samples.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
    return [np.packbits(row.reshape(-1)).tobytes() for row in bits]


def filtered(rows: list[bytes]) -> bytes:
    return b"".join(b"\0" + row for row in rows)


def adam7(samples: np.ndarray, depth: int) -> bytes:
    """The seven passes of an interlaced picture."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    passes.append((1, 0, 2, 1))
    parts = [samples[top::down, left::right] for top, left, down, right in passes]
    return b"".join(filtered(packed(part, depth)) for part in parts if part.size)


def all_filters(samples: np.ndarray) -> bytes:
    """Rows of 8-bit RGB under each of the five filters in turn."""
    before, data = np.zeros(samples.shape[1:], int), b""
    for number, row in enumerate(samples.astype(int)):
        left, above_left = (np.roll(line, 1, axis=0) for line in (row, before))
        left[0] = above_left[0] = 0
        guess = left + before - above_left
        nearest = np.argmin([abs(guess - x) for x in (left, before, above_left)], axis=0)
        paeth = np.choose(nearest, [left, before, above_left])
        kind = number % 5
        predicted = (0, left, before, (left + before) // 2, paeth)[kind]
        data += bytes([kind]) + ((row - predicted) % 256).astype(np.uint8).tobytes()
        before = row
    return data


def png(samples, depth, colour, *before, after=(), data=None, interlaced=0, parts=1) -> bytes:
    """A PNG file of samples (height, width, channels), with more chunks before and after."""
    if data is None:
        data = adam7(samples, depth) if interlaced else filtered(packed(samples, depth))
    stream = zlib.compress(data)
    size = -(-len(stream) // parts)
    pieces = [chunk(b"IDAT", stream[i * size : (i + 1) * size]) for i in range(parts)]
    head = header(*samples.shape[:2], depth, colour, interlaced=interlaced)
    return b"".join((SIGNATURE, head, *before, *pieces, *after, chunk(b"IEND", b"")))


def pngs() -> Iterator[Row]:
    yield from kinds()
    yield from transparent()
    yield from beside_the_pixels()
    yield from damaged()


def kinds() -> Iterator[Row]:
    for depth in (1, 2, 4, 8):
        grey = counting(2**depth)
        pixels = as_rgb(grey * (255 // (2**depth - 1)))
        yield Row(f"grey{depth}.png", png(grey, depth, GREY), pixels=pixels)
        palette = np.random.default_rng(depth).integers(0, 256, (2**depth, 3), np.uint8)
        colours = chunk(b"PLTE", palette.tobytes())
        indexed = png(grey, depth, PALETTE, colours)
        yield Row(f"palette{depth}.png", indexed, pixels=palette[grey[..., 0]])
    wide = counting(2**16, dtype=np.uint16)
    scaled = np.rint(wide / 257).astype(np.uint8)
    yield Row("grey16.png", png(wide, 16, GREY), pixels=as_rgb(scaled))
    deep = counting(2**16, channels=3, dtype=np.uint16)
    yield Row(
        "rgb16.png", png(deep, 16, RGB), pixels=np.rint(deep / 257).astype(np.uint8), within=1
    )
    rgb = counting(256, channels=3)
    yield Row("rgb8.png", png(rgb, 8, RGB), pixels=rgb)
    yield Row(
        "no-suffix-match.jpg",
        png(rgb[::-1], 8, RGB),
        pixels=rgb[::-1],
        warned="PNG by its content",
        advice="end in .png",
    )
    yield Row("interlaced.png", png(rgb[:, ::-1], 8, RGB, interlaced=1), pixels=rgb[:, ::-1])
    bit = counting(2)[::-1]
    yield Row("interlaced1.png", png(bit, 1, GREY, interlaced=1), pixels=as_rgb(bit * 255))
    yield Row("filters.png", png(rgb, 8, RGB, data=all_filters(rgb // 2)), pixels=rgb // 2)
    yield Row("parts.png", png(rgb // 3, 8, RGB, parts=50), pixels=rgb // 3)
    beyond = png(counting(16), 4, PALETTE, chunk(b"PLTE", bytes(range(0, 240, 20))))
    yield Row("beyond-palette.png", beyond)
    dark = png(counting(12, dtype=np.uint16), 16, GREY)
    low = {"warned": "hardly any contrast: its values are 0 to 11", "advice": "shows nothing"}
    yield Row("four-bits-of-sixteen.png", dark, pixels=np.zeros((*SIZE, 3)), **low)
    dot = counting(256, channels=3)[:1, :1] + 5
    yield Row(
        "dot.png", png(dot, 8, RGB), pixels=dot, warned="only 1x1 pixels", advice="larger one"
    )
    line = np.random.default_rng(0).integers(0, 256, (10_000, 1, 3), np.uint8)
    yield Row(
        "line.png",
        png(line, 8, RGB),
        pixels=line,
        warned="only 1x10000 pixels",
        advice="larger one",
    )


def transparent() -> Iterator[Row]:
    for depth in (1, 2, 4, 8, 16):
        grey = counting(2**depth, dtype=np.uint16)[:, ::-1]
        hidden = 1 if depth < 16 else int(grey[3, 4, 0])
        alpha = (grey[..., 0] != hidden).astype(float)
        shown = np.rint(grey * (255 / (2**depth - 1)))
        content = png(grey, depth, GREY, chunk(b"tRNS", struct.pack(">H", hidden)))
        if depth == 1:  # black is hidden: all that is seen is white
            content = png(grey, depth, GREY, chunk(b"tRNS", struct.pack(">H", 0)))
            yield Row(
                "hidden1.png",
                content,
                pixels=np.full((*SIZE, 3), 255, np.uint8),
                warned="hardly differs from the background",
                advice="data.background=[0, 0, 0]",
            )
        else:
            yield Row(f"hidden{depth}.png", content, pixels=over_white(shown, alpha))
    for depth in (8, 16):
        most = 2**depth - 1
        rgb = np.random.default_rng(depth).integers(0, most + 1, (*SIZE, 3), np.uint16)
        key = chunk(b"tRNS", struct.pack(">HHH", *rgb[5, 6].tolist()))
        alpha = (rgb != rgb[5, 6]).any(axis=-1).astype(float)
        shown = np.rint(rgb * (255 / most))
        yield Row(
            f"hidden-rgb{depth}.png",
            png(rgb, depth, RGB, key),
            pixels=over_white(shown, alpha),
            within=depth // 16,
        )
        alpha = counting(most + 1, dtype=np.uint16)[::-1]
        with_alpha = np.concatenate([rgb, alpha], axis=-1)
        pixels = over_white(shown, alpha[..., 0] / most)
        yield Row(f"rgba{depth}.png", png(with_alpha, depth, RGBA), pixels=pixels, within=2)
        with_alpha = with_alpha[..., 2:]
        pixels = over_white(shown[..., 2:], alpha[..., 0] / most)
        yield Row(
            f"grey-alpha{depth}.png", png(with_alpha, depth, GREY_ALPHA), pixels=pixels, within=2
        )
    for depth in (2, 8):
        index = counting(2**depth)[::-1]
        generator = np.random.default_rng(depth + 20)
        palette = generator.integers(0, 256, (2**depth, 3), np.uint8)
        alpha = generator.integers(0, 256, 2**depth, np.uint8)
        alpha[2**depth - 1 :] = 255  # the table may be shorter than the palette
        table = chunk(b"tRNS", alpha[:-1].tobytes())
        content = png(index, depth, PALETTE, chunk(b"PLTE", palette.tobytes()), table)
        pixels = over_white(palette[index[..., 0]], alpha[index[..., 0]] / 255)
        yield Row(f"palette-alpha{depth}.png", content, pixels=pixels, within=1)


def beside_the_pixels() -> Iterator[Row]:
    rgb = counting(256, channels=3)

    def with_chunks(name, number, *before, after=(), pixels=None, **words):
        mine = (rgb + number).astype(np.uint8)
        shown = mine if pixels is None else pixels(mine)
        return Row(name, png(mine, 8, RGB, *before, after=after), pixels=shown, **words)

    yield with_chunks("gamma.png", 1, chunk(b"gAMA", struct.pack(">L", 100_000)))
    primaries = (31270, 32900, 70800, 29200, 17000, 79700, 13100, 4600)  # of Rec. 2020
    yield with_chunks("wide.png", 2, chunk(b"cHRM", struct.pack(">8L", *primaries)))
    profile = b"wide gamut\0\0" + zlib.compress(bytes(500))
    yield with_chunks("profile.png", 3, chunk(b"iCCP", profile))
    yield with_chunks("black-behind.png", 4, chunk(b"bKGD", bytes(6)))
    yield with_chunks(
        "turned.png", 5, chunk(b"eXIf", EXIF_TURNED), pixels=lambda rgb: np.rot90(rgb, -1)
    )
    yield with_chunks(
        "turned-after.png",
        6,
        after=[chunk(b"eXIf", EXIF_TURNED)],
        pixels=lambda rgb: np.rot90(rgb, -1),
    )
    yield with_chunks("odd-exif.png", 7, chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"))
    yield with_chunks("long-text.png", 8, chunk(b"tEXt", b"Comment\0" + b"x" * 2_000_000))
    bomb = zlib.compress(bytes(100_000_000))
    yield with_chunks("text-bomb.png", 9, chunk(b"zTXt", b"Comment\0\0" + bomb))
    yield with_chunks("profile-bomb.png", 10, chunk(b"iCCP", b"bomb\0\0" + bomb))
    yield with_chunks("private.png", 11, chunk(b"prVt", b"x" * 100))
    many = chunk(b"tEXt", b"Comment\0") * 50_000
    yield with_chunks("many-texts.png", 12, many)
    content = png((rgb + 13).astype(np.uint8), 8, RGB)
    yield Row(
        "zip-behind.png", content + b"PK\3\4" + bytes(500), pixels=(rgb + 13).astype(np.uint8)
    )
    frames = [Image.fromarray((rgb + number).astype(np.uint8)) for number in (14, 200)]
    stream = io.BytesIO()
    frames[0].save(stream, "PNG", save_all=True, append_images=frames[1:])
    first = np.asarray(frames[0])
    yield Row(
        "animated.png", stream.getvalue(), pixels=first, warned="first frame", advice="Look at it"
    )
    one_frame = chunk(b"acTL", struct.pack(">LL", 0, 0))
    yield with_chunks("no-frames.png", 15, one_frame)


def damaged() -> Iterator[Row]:
    whole = png(counting(256, channels=3), 8, RGB)
    data = whole.index(b"IDAT")
    yield Row("cut-in-signature.png", whole[:6], bad="damaged PNG", advice="intact copy")
    yield Row("cut-in-header.png", whole[:20], **CUT_OFF)
    yield Row("cut-after-header.png", whole[:33], **CUT_OFF)
    yield Row("cut-in-pixels.png", whole[: len(whole) // 2], **CUT_OFF)
    yield Row("cut-at-end.png", whole[:-12], **CUT_OFF)
    yield Row("cut-by-a-byte.png", whole[:-1], **CUT_OFF)
    flipped = bytearray(whole)
    flipped[data + 20] ^= 4
    yield Row(
        "flipped-bit.png", bytes(flipped), bad="checksum of its IDAT part", advice="intact copy"
    )
    flipped = bytearray(whole)
    flipped[18] ^= 1
    yield Row(
        "flipped-width.png", bytes(flipped), bad="checksum of its IHDR part", advice="intact copy"
    )
    zeros = whole[: data + 50] + bytes(len(whole) - data - 50)
    yield Row("zeros-behind.png", zeros, bad="checksum of its IDAT part", advice="intact copy")
    rgb = counting(256, channels=3)
    text = chunk(b"tEXt", b"Comment\0x", checksum_off=1)
    yield Row(
        "wrong-text-sum.png",
        png(rgb, 8, RGB, text),
        bad="checksum of its tEXt part",
        advice="intact copy",
    )
    short = png(rgb, 8, RGB, data=filtered(packed(rgb, 8))[:400])
    yield Row("too-few-pixels.png", short, bad="damaged PNG", advice="intact copy")
    as_text = whole.replace(b"\r\n", b"\n")
    yield Row("sent-as-text.png", as_text, bad="changed, as if text", advice="intact copy")
    apple = SIGNATURE + chunk(b"CgBI", bytes(4)) + whole[8:]
    yield Row("of-apple.png", apple, bad="unknown kind (its CgBI part)", advice="Export it")
    end = chunk(b"IEND", b"")
    yield Row(
        "no-pixels.png",
        SIGNATURE + header(*SIZE, 8, RGB) + end,
        bad="damaged PNG",
        advice="intact copy",
    )
    no_palette = png(counting(4), 2, PALETTE)
    yield Row("no-palette.png", no_palette, bad="damaged PNG", advice="intact copy")
    for height, width in ((0, 24), (16, 0)):
        nothing = png(np.zeros((height, width, 3), np.uint8), 8, RGB)
        yield Row(f"{width}x{height}.png", nothing, bad="damaged PNG", advice="intact copy")
    for depth, colour in ((3, GREY), (4, RGB), (16, PALETTE), (8, 5)):
        content = SIGNATURE + header(*SIZE, depth, colour) + whole[33:]
        yield Row(
            f"depth{depth}-colour{colour}.png", content, bad="damaged PNG", advice="intact copy"
        )
    content = SIGNATURE + header(*SIZE, 8, RGB, interlaced=9) + whole[33:]
    yield Row("interlace9.png", content, bad="damaged PNG", advice="intact copy")
    content = SIGNATURE + header(*SIZE, 8, RGB, filters=9) + whole[33:]
    yield Row("filters9.png", content, bad="damaged PNG", advice="intact copy")
    bad_filter = b"\7" + filtered(packed(rgb, 8))[1:]
    yield Row(
        "row-filter7.png",
        png(rgb, 8, RGB, data=bad_filter),
        bad="damaged PNG",
        advice="intact copy",
    )
    for side, depth in ((60_000, 8), (20_000, 1)):
        head = SIGNATURE + header(side, side, depth, RGB if depth == 8 else GREY)
        content = head + chunk(b"IDAT", zlib.compress(b"")) + end
        yield Row(
            f"{side}x{side}.png", content, bad="more than 50 million pixels", advice="smaller size"
        )
    empty_parts = chunk(b"IDAT", b"") * 100_001
    content = whole[: data - 4] + empty_parts + whole[data - 4 :]
    yield Row("many-parts.png", content, bad="more than 100,000 parts", advice="data convert")
    head = SIGNATURE + header(7000, 7200, 1, GREY)
    content = head + chunk(b"IDAT", zlib.compress(bytes(7000 * 901))) + end
    yield Row("large.png", content, bad="more than 50 million pixels", advice="data convert")
