"""Tiny generated images, a cache of its own for each test session, and the reference data."""

import inspect
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from tiny_images import make_images

IS_WINDOWS = sys.platform == "win32"
# Kills, limits, links and named pipes; what a test that uses them has in its source.
collect_ignore = ["robustness"] if IS_WINDOWS else []
POSIX = re.compile(r"symlink_to|mkfifo|chmod|fsencode|SIG(HUP|KILL|TERM|INT)|send_signal|/proc/")

CHROMIUM, CHROMEDRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")


def pytest_make_parametrize_id(val, argname):
    # Bytes may hold the second in which they were packed, and the processes that share the tests
    # refuse to start where they do not know them by the same names.
    return argname if isinstance(val, bytes) else None


def pytest_collection_modifyitems(items):
    if IS_WINDOWS:
        for item in items:
            if POSIX.search(inspect.getsource(item.function)):
                item.add_marker(pytest.mark.skip(reason="needs what Windows lacks"))


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    # Of the session, so that fixtures of a session or a module have it too.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVTRAIN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    """A cache of its own for one test."""
    monkeypatch.setenv("CVTRAIN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def seeded_engine():
    """The engine on the CPU, its generators started anew."""
    from cvtrain import backend

    backend.set_up(seed=0, device="cpu")


@pytest.fixture(autouse=True, scope="session")
def _hears_signals():
    # A shell starts what it does not wait for deaf to Ctrl-C, and nohup deaf to a closing terminal;
    # every process that a test starts would be so, too.
    heard = {signal.SIGINT: signal.default_int_handler}
    if not IS_WINDOWS:
        heard[signal.SIGHUP] = signal.SIG_DFL
    for number, handler in heard.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def shared():
    """The folder of reference data; tests that need it are marked `realdata`."""
    folder = Path(os.environ.get("CVTRAIN_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no reference data at {folder}; CVTRAIN_SHARED names it")
    return folder


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory):
    """Three classes that a tiny net tells apart, in split folders."""
    root = tmp_path_factory.mktemp("images")
    counts = {"train": 12, "validation": 4, "test": 5}
    names = ("red", "green", "blue")
    return make_images(root, {f"{s}/{n}": count for s, count in counts.items() for n in names})


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Headless Chromium; tests that need it are skipped where it is not installed."""
    webdriver = pytest.importorskip("selenium.webdriver")
    for path in (CHROMIUM, CHROMEDRIVER):
        if not path.exists():
            pytest.skip(f"no {path}")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for switch in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=str(CHROMEDRIVER))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


# Trained once for all tests that look at a finished run. What trains it is imported in the fixture:
# most tests need no engine.
TINY = """
seed: 3
precision: float32
data: {{source: {source}, image_size: [16, 20]}}
augment: {{flip: horizontal, rotate: 10, brightness: 0.1}}
fit:
  model: {{filters: [4, 8], dense: [8], dropout: 0.2, batch_normalization: true}}
  epochs: 4
  batch_size: 8
  optimizer: {{name: adam, learning_rate: 1e-2}}
  schedule: {{name: plateau, patience: 1}}
"""


TRANSFER = """
seed: 3
precision: float32
data: {{source: {source}, image_size: [16, 20]}}
augment: {{flip: horizontal, rotate: 10}}
extract_features:
  backbone: {{weights: {base}}}
  head: {{dense: [8], dropout: 0.2}}
  views: 2
  epochs: 20
  batch_size: 8
  optimizer: {{name: adam, learning_rate: 1e-2}}
finetune:
  unfreeze_blocks: 1
  epochs: 2
  batch_size: 8
  optimizer: {{name: adam, learning_rate: 1e-3}}
"""


@pytest.fixture(scope="session")
def config_path(tmp_path_factory, image_folder):
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(TINY.format(source=image_folder))
    return path


@pytest.fixture(scope="session")
def train(config_path):
    """train(folder, *overrides, resume=False, console=...) -> Run"""

    def run(folder, *overrides, resume=False, console=None):
        from cvtrain.commands.fit import fit
        from cvtrain.config import load_config
        from cvtrain.runs.run import RunRequest
        from cvtrain.system.console import Console

        config = load_config(config_path, overrides)
        return fit(config, RunRequest(folder, "tiny", resume), console or Console(quiet=True))

    return run


@pytest.fixture(scope="session")
def finished(train, tmp_path_factory):
    """A finished run."""
    return train(tmp_path_factory.mktemp("runs") / "finished")


@pytest.fixture(scope="session")
def transfer_config(tmp_path_factory, image_folder):
    """transfer_config(base) -> path of a config whose backbone is that of the run `base`."""

    def write(base):
        path = tmp_path_factory.mktemp("config") / "tiny.yaml"
        path.write_text(TRANSFER.format(source=image_folder, base=base.path))
        return path

    return write


@pytest.fixture(scope="session")
def starter(tmp_path_factory, image_folder):
    """starter(command, text of a config) -> start(folder, *overrides, resume=False) -> Run"""

    def on(command, text):
        from cvtrain.config import load_config
        from cvtrain.runs.run import RunRequest
        from cvtrain.system.console import Console

        path = tmp_path_factory.mktemp("config") / "tiny.yaml"
        path.write_text(text.format(source=image_folder))

        def start(folder, *overrides, resume=False):
            config = load_config(path, overrides)
            return command(config, RunRequest(folder, "tiny", resume), Console(quiet=True))

        return start

    return on


@pytest.fixture(scope="module")
def no_figures():
    """Drawing takes a third of a tiny run; for tests that look at no figure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cvtrain.plots.figures.save", lambda *_: None)
        yield


@pytest.fixture
def count_forward(monkeypatch):
    """How many images were computed, one entry for each extraction of features."""
    from cvtrain.steps import cached_features

    counts, original = [], cached_features.extract

    def counting(*args, **kwargs):
        counts.append(original(*args, **kwargs))
        return counts[-1]

    monkeypatch.setattr(cached_features, "extract", counting)
    return counts
