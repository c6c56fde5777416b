"""The commands that start a run: what each one reads of a config, and what it ends in."""

from typing import Literal, NamedTuple


class RunCommand(NamedTuple):
    """One command.

    Attributes:
        sections: of the config that it reads besides the shared ones.
        result: what a run of it ends in; the rows of a table are all of the same images.
    """

    sections: set[str]
    result: Literal["model", "table", "suggestion"]


RUN_COMMANDS = {
    "fit": RunCommand({"fit"}, "model"),
    "find-lr": RunCommand({"fit"}, "suggestion"),
    "extract-features": RunCommand({"extract_features", "finetune"}, "model"),
    "finetune": RunCommand({"finetune"}, "model"),
    "probe": RunCommand({"probe", "extract_features"}, "table"),
    "learning-curve": RunCommand({"learning_curve", "extract_features"}, "table"),
    "ladder": RunCommand({"fit", "extract_features", "finetune"}, "table"),
}

MODEL_COMMANDS = tuple(name for name, each in RUN_COMMANDS.items() if each.result == "model")
"""Those that train a model, in the order in which a project needs them."""

NAME_A_MODEL_RUN = f"Name a run of {', '.join(MODEL_COMMANDS[:-1])} or {MODEL_COMMANDS[-1]}."
"""The advice where a run has no model."""
