"""The commands that start a run: the sections of the config and the kind of result of each."""

from typing import Literal, NamedTuple


class RunCommand(NamedTuple):
    """One command.

    Attributes:
        sections: the sections of the config that it reads, in addition to the shared ones.
        result: the kind of result; all rows of a table are measured on the same images.
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
"""The commands that train a model, in the usual order."""

NAME_A_MODEL_RUN = f"Name a run of {', '.join(MODEL_COMMANDS[:-1])} or {MODEL_COMMANDS[-1]}."
"""The advice for a run without a model."""
