"""Keras' files of ImageNet weights: file names, addresses, and the network of a file name.

Plain data and the standard library, so that weights can be looked for before Keras is loaded.
"""

import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path

from cvtrain.sections.architectures import ARCHITECTURES
from cvtrain.system.text import escape

ADDRESS = "https://storage.googleapis.com/tensorflow/keras-applications"

_MOBILENET_ALPHAS = {0.25: "2_5", 0.5: "5_0", 0.75: "7_5", 1.0: "1_0"}
_MOBILENET_SIDES = (128, 160, 192, 224)
_SECONDS = 3.0


@dataclass(frozen=True)
class KerasWeights:
    """A pretrained network, as `backbone:` names it.

    Attributes:
        name: a key of `ARCHITECTURES`.
        alpha: width of a MobileNet; None for networks of one width.
    """

    name: str
    alpha: float | None = None

    def __str__(self) -> str:
        return self.name if self.alpha is None else f"{self.name} {self.alpha:g}"

    def address(self, side: int) -> str:
        """Where Keras fetches the weights of one of `BACKBONES` for images of side x side
        pixels.
        """
        if self.name == "mobilenet":
            rows = side if side in _MOBILENET_SIDES else 224
            width = _MOBILENET_ALPHAS[self.alpha or 1.0]
            return f"{ADDRESS}/mobilenet/mobilenet_{width}_{rows}_tf_no_top.h5"
        variant = self.name.removeprefix("efficientnet_v2_")
        return f"{ADDRESS}/efficientnet_v2/efficientnetv2-{variant}_notop.h5"

    def cached(self, side: int) -> Path:
        """Path of that file in the cache of Keras."""
        return keras_home() / "models" / self.address(side).rpartition("/")[2]


BACKBONES = (
    KerasWeights("mobilenet", 0.25),
    KerasWeights("mobilenet", 0.5),
    KerasWeights("mobilenet", 1.0),
    KerasWeights("efficientnet_v2_b0"),
)
"""Recommended backbones, from the fastest to the most accurate. Their accuracy on ImageNet is 50.6,
63.7, 70.6 % (Howard et al., arXiv:1704.04861, table 6) and 78.7 % (keras.io/api/applications)."""


def network_of(path: Path) -> KerasWeights | None:
    """The network whose weights a file holds, from the file name; None if the name is unknown."""
    stem = path.name.lower().removesuffix(".h5").removesuffix(".weights")
    letters = re.sub(r"[^a-z0-9]", "", stem.removeprefix("weights_"))
    # The longest first: resnet50v2 begins with resnet50.
    for name in sorted(ARCHITECTURES, key=len, reverse=True):
        if letters.startswith(name.replace("_", "")):
            return KerasWeights(name, _alpha_in(stem) if ARCHITECTURES[name].has_alpha else None)
    return None


def keras_home() -> Path:
    """Keras' own folder: `$KERAS_HOME`, else `~/.keras`."""
    own = os.environ.get("KERAS_HOME")
    return Path(own).expanduser() if own else Path.home() / ".keras"


def problem_fetching(address: str, seconds: float = _SECONDS) -> str:
    """Why `address` cannot be fetched now; empty if it can. Only the headers are requested."""
    problems: list[str] = []
    # In a thread, because no timeout bounds the look-up of a name.
    thread = threading.Thread(target=_ask, args=(address, seconds, problems), daemon=True)
    thread.start()
    thread.join(seconds)
    return (problems or [f"no answer in {seconds:.0f} s"])[0]


def _ask(address: str, seconds: float, problems: list[str]) -> None:
    from http.client import HTTPException
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(address, method="HEAD"), timeout=seconds):
            problems.append("")
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        words = getattr(reason, "strerror", None) or str(reason) or type(error).__name__
        problems.append(escape(words))


def _alpha_in(stem: str) -> float | None:
    """`mobilenet_2_5_224_tf` -> 0.25; the later MobileNets have it as it is: `..._0.35_224`."""
    widths = {text: alpha for alpha, text in _MOBILENET_ALPHAS.items()}
    if found := re.match(r"mobilenet_(\d_\d)_\d+_tf", stem):
        return widths.get(found[1])
    found = re.search(r"_(\d\.\d+)_", f"{stem}_")
    return float(found[1]) if found else None
