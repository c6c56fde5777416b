import pytest

from cvtrain.errors import ConfigError
from cvtrain.system.commit_interval import VARIABLE, commit_interval


def test_only_the_environment_asks(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert commit_interval() is None
    monkeypatch.setenv(VARIABLE, "2.5")
    assert commit_interval() == 2.5
    monkeypatch.setenv(VARIABLE, "0")
    assert commit_interval() == 0


@pytest.mark.parametrize("text", ["", "often", "-1", "nan", "inf"])
def test_what_is_no_number_of_seconds_is_refused(monkeypatch, text):
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ConfigError, match=f"{VARIABLE}: must be seconds, 0 or more; received"):
        commit_interval()
