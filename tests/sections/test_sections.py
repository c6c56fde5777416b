"""Sections are the arguments of functions: light to import, checked when they are made."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from cvtrain.sections import Augment, Optimizer, Schedule, Training

HEAVY = ("numpy", "cv2", "yaml", "keras", "tensorflow", "matplotlib")


def test_importing_them_imports_nothing_heavy():
    code = f"import sys, cvtrain.sections; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Augment(rotate=200), "less than or equal to 180"),
        (lambda: Augment(rotation=20), "Extra inputs are not permitted"),
        (lambda: Optimizer(name="adam", momentum=0.9), "adam has no momentum"),
        (lambda: Training(epochs=2, schedule=Schedule(warmup_epochs=3)), "smaller than epochs"),
    ],
)
def test_what_is_wrong_is_told_when_they_are_made(make, message):
    with pytest.raises(ValidationError, match=message):
        make()


def test_single_images_are_changed_by_what_is_not_neutral():
    assert Augment(rotate=20, fill="wrap").image_changes == {"rotate": 20.0, "fill": "wrap"}
    assert Augment(fill="wrap", mixup=0.2, cutmix=1).image_changes == {}
    assert Augment(mixup=0.2, cutmix=1).mixes == ("mixup", "cutmix")
