"""Every error that a user can meet, with the exit code of each.

    CvtrainError           1
    ├── ConfigError        2   the command line or the config says something impossible
    ├── DataError          3   the images are not usable as they are
    ├── RunError           4   a run folder or a model is missing, damaged or of another kind
    ├── ResourceError      5   disk, memory, permission or device
    ├── TrainingError      6   training cannot go on: losses, weights or features are not finite
    ├── NotReproduced      7   a run was done again, and something differs
    └── Stopped           75   stopped on request; `--resume` continues

An error says where, what, what was received and what to do. `cvtrain.__main__` is the one place
that turns it into text and an exit code; anything else that reaches it is a defect of ours.
"""


class CvtrainError(Exception):
    """Base of all errors that a user can meet.

    Args:
        message: where and what, on one line; what was received when that helps.
        advice: what to do about it, one sentence; may be empty.
    """

    exit_code = 1

    def __init__(self, message: str, advice: str = ""):
        super().__init__(message)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message}\n  {self.advice}" if self.advice else self.message


class ConfigError(CvtrainError):
    """The command line or the config says something impossible."""

    exit_code = 2


class DataError(CvtrainError):
    """The images are not usable as they are."""

    exit_code = 3


class RunError(CvtrainError):
    """A run folder or a model is missing, damaged or of another kind."""

    exit_code = 4


class ResourceError(CvtrainError):
    """The disk, the memory, a permission or a device does not suffice."""

    exit_code = 5


class TrainingError(CvtrainError):
    """Training cannot go on: losses, weights or features are not finite."""

    exit_code = 6


class NotReproduced(CvtrainError):
    """A run was done again from what it recorded, and something differs; both runs are complete."""

    exit_code = 7


class Stopped(CvtrainError):
    """Stopped on request (Ctrl-C, SIGTERM); what was learnt is saved and can be resumed."""

    exit_code = 75
