"""How often a command commits what a kill would lose, where the environment asks for more or less.

For machines that are taken away at short notice, and for those who try what a kill does.
"""

import math
import os

from cvtrain.errors import ConfigError

VARIABLE = "CVTRAIN_COMMIT_SECONDS"


def commit_interval() -> float | None:
    """Seconds between two commits that `$CVTRAIN_COMMIT_SECONDS` asks for; None where it does not.

    Raises:
        ConfigError: it is no number of seconds.
    """
    text = os.environ.get(VARIABLE)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ConfigError(
            f"{VARIABLE}: must be seconds, 0 or more; received {text!r}",
            "Such as 10; or unset it: then commits cost little and a kill loses a minute at most.",
        )
    return seconds
