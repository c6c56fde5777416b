"""Render a template to one self-contained HTML page, without network or other files.

Names in a page may come from untrusted files, so they are escaped twice, for readers and for HTML.
The content security policy of a template contains the digests of its style and script (filter
`sha256`), so that a browser runs and loads nothing else.
"""

import base64
import hashlib
import io
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from cvtrain.system.text import escape

_JPEG = {"quality": 82, "optimize": True}


def render(package: str, template: str, **values: Any) -> str:
    """Render a template with `values`; characters that are not printable are escaped.

    Args:
        package: where the template and those that it imports are, `cvtrain.reports`.
        template: file name.
    """
    folder = resources.files(package)
    # `finalize` sees every value that the template prints, so no name can be forgotten.
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else escape(value),
        loader=FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8")),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["sha256"] = _sha256
    return environment.get_template(template).render(values)


def picture(pixels: np.ndarray, *, shortest: int = 160, longest: int = 640) -> str:
    """An image for a page, as the data URI of a JPEG.

    Args:
        pixels: (h, w, 3) uint8. A small image is enlarged by a whole factor, until its longer side
            has at least `shortest` pixels, so that its pixels can be seen.
        longest: the longer side of a larger image in the result, in pixels.
    """
    image = Image.fromarray(pixels)
    side = max(image.size)
    factor = -(-shortest // side)
    if factor > 1:
        size = (image.width * factor, image.height * factor)
        image = image.resize(size, Image.Resampling.NEAREST)
    elif side > longest:
        width, height = (max(1, round(n * longest / side)) for n in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return data_uri(encoded(np.asarray(image), "JPEG", **_JPEG), "image/jpeg")


def encoded(pixels: np.ndarray, file_format: str, **options: object) -> bytes:
    """The bytes of an image file of (h, w, 3) uint8 pixels."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, file_format, **options)
    return stream.getvalue()


def data_uri(content: bytes, media_type: str) -> str:
    """The bytes of a file as a data URI."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def _sha256(text: str) -> str:
    """How a content security policy names an inline style or script."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
