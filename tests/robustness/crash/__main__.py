"""cvtrain under random kills: `PYTHONPATH=tests python -m robustness.crash --kills 200`."""

import sys

from robustness.crash.attempts import preload
from robustness.crash.campaign import arguments, campaign
from robustness.crash.scenarios import COMMANDS, prepare


def main() -> None:
    """Parse the arguments, kill, and print the tables; 1 if a run was lost or is different."""
    options = arguments(__doc__.splitlines()[0], COMMANDS).parse_args()
    preload("cvtrain", "sklearn.linear_model")
    chains = campaign(options, prepare)
    sys.exit(any(chain.verdict != "identical" for chain in chains))


if __name__ == "__main__":
    main()
