"""The two most important findings are printed, each with the settings to try."""

from cvtrain.steps.diagnosis import print_diagnosis
from cvtrain.system.console import Console

READINGS = [
    {"finding": "over-fitting", "detail": "First.", "proposal": "fit:\n  epochs: 3\n"},
    {"finding": "validation-too-small", "detail": "Second.", "proposal": ""},
    {"finding": "training-below-validation", "detail": "Third.", "proposal": ""},
]


def test_two_findings_are_printed_with_their_proposals(capsys):
    print_diagnosis(READINGS, Console())
    printed = capsys.readouterr().out
    assert printed == "\nFirst.\nTo try:\n  fit:\n    epochs: 3\n\nSecond.\n"
