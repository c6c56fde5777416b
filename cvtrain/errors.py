"""The documented errors, with the exit code of each.

    CvtrainError           1
    ├── ConfigError        2   the command line or the config is invalid
    ├── DataError          3   the images cannot be used without changes
    ├── RunError           4   a run folder or a model is missing, damaged or of another kind
    ├── ResourceError      5   disk, memory, permission or device
    ├── TrainingError      6   training cannot continue: losses, weights or features are not finite
    ├── NotReproduced      7   a run was repeated, and something differs
    └── Stopped           75   stopped on request; `--resume` continues

A message states where the problem is, what it is, what was received and what to do. Only
`cvtrain.__main__` turns an error into text and an exit code; any other exception is a defect.
"""


class CvtrainError(Exception):
    """Base class of all documented errors.

    Args:
        message: Where the problem is and what it is, on one line.
        advice: What to do about it; may be empty.
    """

    exit_code = 1

    def __init__(self, message: str, advice: str = ""):
        super().__init__(message)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message}\n  {self.advice}" if self.advice else self.message


class ConfigError(CvtrainError):
    """The command line or the config is invalid."""

    exit_code = 2


class DataError(CvtrainError):
    """The images cannot be used without changes, such as damaged files or a missing class."""

    exit_code = 3


class RunError(CvtrainError):
    """A run folder or a model is missing, damaged or of another kind."""

    exit_code = 4


class ResourceError(CvtrainError):
    """There is a problem with disk space, memory, permissions or a device."""

    exit_code = 5


class TrainingError(CvtrainError):
    """Training cannot continue, because losses, weights or features are not finite."""

    exit_code = 6


class NotReproduced(CvtrainError):
    """A run was repeated from its record, and something differs; both runs are complete."""

    exit_code = 7


class Stopped(CvtrainError):
    """Stopped on request (Ctrl-C, SIGTERM); the state is saved, and the run can be resumed."""

    exit_code = 75
