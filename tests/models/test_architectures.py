"""The table of networks is light, and names what Keras has."""

import subprocess
import sys

from cvtrain.backend import keras
from cvtrain.models.architectures import ARCHITECTURES


def test_it_is_there_without_keras():
    code = (
        "import sys, cvtrain.models.architectures; assert not {'keras', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_network_of_keras_is_in_it():
    known = {architecture.constructor for architecture in ARCHITECTURES.values()}
    constructors = {
        name
        for name in vars(keras.applications)
        if name[0].isupper() and callable(getattr(keras.applications, name))
    }
    assert known == constructors
