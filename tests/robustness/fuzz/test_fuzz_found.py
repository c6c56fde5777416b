"""What fuzzing has found stays mended, and sound inputs pass."""

import pytest
from fuzz_found import FOUND
from fuzz_seeds import SEEDS


@pytest.mark.parametrize("what", FOUND)
def test_it_stays_mended(child, what):
    child.check(*FOUND[what])


@pytest.mark.parametrize("target", SEEDS)
def test_sound_inputs_pass(child, target):
    for seed in SEEDS[target]():
        child.check(target, seed)
