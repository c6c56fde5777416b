"""Every mistake in a config is told with file, line, key, what was received and what to do."""

import pytest
import yaml

from cvtrain.config import Config, config_for_source, dump_config, load_config
from cvtrain.errors import ConfigError
from cvtrain.sections.base import field_docs, sections_in

MINIMAL = "data: {source: digits}\n"


@pytest.fixture
def write(tmp_path):
    def write_config(text):
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_config


def mistakes(path, overrides=()):
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return caught.value.message.replace(str(path), "config.yaml").splitlines()


def test_what_a_run_of_an_earlier_version_has_written_out_is_still_read(write):
    written = (
        "cached_features: bfloat16\n"
        "data: {source: digits}\n"
        "extract_features: {backbone: {name: vgg16}, head: {neighbors: 20}}\n"
    )
    assert load_config(write(written)).extract_features.head.name == "dense"
    other = written.replace("20", "3").replace("bfloat16", "float32")
    assert len(mistakes(write(other))) == 2


def test_the_least_config_has_all_defaults(write):
    config = load_config(write(MINIMAL))
    assert config.data.source == "digits"
    assert config.data.image_size == (180, 180)
    assert config.augment is None
    assert config.fit.optimizer.learning_rate == 1e-3


def test_a_config_survives_writing_and_reading(write, tmp_path):
    config = load_config(
        write(
            "seed: 7\n"
            "data: {source: digits, image_size: [40, 60], background: [0, 10, 255]}\n"
            "augment: {flip: horizontal, rotate: 40}\n"
            "fit: {model: {filters: [8, 16], pooling: [2, 1], dense: []}, steps_per_epoch: 3}\n"
        )
    )
    again = tmp_path / "again.yaml"
    again.write_text(dump_config(config), encoding="utf-8")
    assert load_config(again) == config


def test_a_range_survives_writing_and_reading(write):
    config = load_config(write(MINIMAL), ["data.range=[0, 4095]"])
    assert config.data.range == (0, 4095)
    assert yaml.safe_load(dump_config(config))["data"]["range"] == [0, 4095]
    assert load_config(write(dump_config(config))) == config
    assert load_config(write(MINIMAL), ["data.range=auto"]) == load_config(write(MINIMAL))


def test_a_dumped_config_is_plain_yaml(write):
    values = yaml.safe_load(dump_config(load_config(write(MINIMAL))))
    assert values["data"]["image_size"] == [180, 180]
    assert values["fit"]["optimizer"]["learning_rate"] == 1e-3


def test_configs_are_immutable(write):
    config = load_config(write(MINIMAL))
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3


def test_relative_sources_count_from_the_config_and_set_ones_from_here(
    write, tmp_path, monkeypatch
):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    path = write("data: {source: photos}\n")
    assert load_config(path).data.source == str(tmp_path / "photos")
    assert load_config(path, ["data.source=photos"]).data.source == str(here / "photos")


def test_one_number_is_a_square(write):
    assert load_config(write("data: {source: digits, image_size: 32}")).data.image_size == (32, 32)


def test_overrides_win_and_make_sections(write):
    config = load_config(
        write(MINIMAL), ["fit.epochs=3", "augment.rotate=1e1", "fit.model.filters=[4, 8]"]
    )
    assert config.fit.epochs == 3
    assert config.augment.rotate == 10.0
    assert config.fit.model.filters == (4, 8)


def test_a_source_alone_makes_a_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = config_for_source("photos", ["data.image_size=64"])
    assert config.data.source == str(tmp_path / "photos")
    assert config.data.image_size == (64, 64)


WRONG = [
    ("epochs: 3", "config.yaml:1: epochs: there is no such key. Did you mean fit.epochs?"),
    ("dat: {}", "config.yaml:1: dat: there is no such key. Did you mean data?"),
    ("seed: -1", "config.yaml:1: seed: must be greater than or equal to 0; received -1"),
    ("seed: 1.5", "config.yaml:1: seed: must be a whole number; received 1.5"),
    ("seed: true", "config.yaml:1: seed: must be a whole number; received true"),
    ("device: tpu", "device: must be auto, cpu or gpu; received the text 'tpu'"),
    ("precision: bf16", "precision: must be auto, float32, bfloat16 or float16; received"),
    ("augment: {fil: nearest}", "augment.fil: there is no such key. Did you mean augment.fill?"),
    ("augment: {flip: yes}", "augment.flip: must be none, horizontal, vertical or both"),
    ("augment: {rotate: '40'}", "augment.rotate: must be a number; received the text '40'"),
    ("augment: {rotate: 400}", "augment.rotate: must be less than or equal to 180; received 400"),
    ("augment: {zoom: 1}", "augment.zoom: must be less than 1; received 1"),
    ("augment: {shift: .nan}", "augment.shift: must be a finite number; received NaN"),
    ("augment: 40", "augment: must be a section with keys (flip, rotate, shift"),
    ("augment: {mixup: 0}", "augment.mixup: must be greater than 0; received 0"),
    ("augment: {erase: 1.5}", "augment.erase: must be less than or equal to 1; received 1.5"),
    ("augment: {rand_augment: 9}", "augment.rand_augment: must be a section with keys (num_ops, "),
    ("augment: {rand_augment: {magnitude: 31}}", "magnitude: must be less than or equal to 30"),
    ("augment: {mix_up: 0.2}", "augment.mix_up: there is no such key. Did you mean augment.mixup?"),
    ("fit: {label_smoothing: 1}", "fit.label_smoothing: must be less than 1; received 1"),
    ("fit: {epoch: 30}", "fit.epoch: there is no such key. Did you mean fit.epochs?"),
    ("fit: {epochs: 0}", "fit.epochs: must be greater than or equal to 1; received 0"),
    ("fit: {epochs: 1e1}", "fit.epochs: must be a whole number; received 10.0"),
    ("fit: {batch_size: many}", "fit.batch_size: must be a whole number; received the text 'many'"),
    ("fit: {rotate: 3}", "fit.rotate: there is no such key. Did you mean augment.rotate?"),
    ("fit: {early_stopping: no}", "fit.early_stopping: must be a whole number; received"),
    ("log: [tensorbord]", "log.0: must be tensorboard or mlflow; received the text 'tensorbord'"),
    ("log: tensorboard", "log: must be a list such as [1, 2]; received the text 'tensorboard'"),
    ("fit: {ema: 1}", "fit.ema: must be less than 1; received 1"),
    ("fit: {schedule: cosine}", "fit.schedule: must be a section with keys (name, warmup_epochs"),
    ("fit: {schedule: {name: cosin}}", "received the text 'cosin'. Did you mean cosine?"),
    ("fit: {epochs: 2, schedule: {warmup_epochs: 2}}", "warmup_epochs must be smaller than epochs"),
    ("fit: {optimizer: {name: adma}}", "fit.optimizer.name: must be sgd, rmsprop, adam or adamw"),
    (
        "probe: {backbones: [{name: vgg16}, {name: vgg16, cat: x}]}",
        "probe.backbones.1.cat: there is no such key. Did you mean probe.backbones.1.cut?",
    ),
    ("probe: {backbones: [{name: vgg17}]}", "probe.backbones.0: there is no network 'vgg17'"),
    ("probe: {image_sizes: [96, 3]}", "probe.image_sizes.1: must be between 4 and 4096 pixels"),
    ("probe: {folds: 1}", "probe.folds: must be greater than or equal to 2; received 1"),
    ("fit: {optimizer: {lr: 0.1}}", "fit.optimizer.lr: there is no such key."),
    ("fit: {optimizer: {learning_rate: 0}}", "learning_rate: must be greater than 0; received 0"),
    ("fit: {optimizer: {name: adam, momentum: 0.9}}", "adam has no momentum; leave it out"),
    ("fit: {model: {filters: []}}", "fit.model.filters: must have at least 1 value; received []"),
    (
        "fit: {model: {filters: 32}}",
        "fit.model.filters: must be a list such as [1, 2]; received 32",
    ),
    ("fit: {model: {kernel_size: [3, 3]}}", "kernel_size has 2 values for 4 stages (filters)"),
    ("fit: {model: {pooling: 0}}", "fit.model.pooling: must be a whole number of at least 1"),
    ("fit: {model: {padding: full}}", "fit.model.padding: must be valid or same; received"),
    (
        "fit: {model: {name: separabel}}",
        "fit.model.name: must be convnet or separable; received the text 'separabel'. "
        "Did you mean separable?",
    ),
    (
        "fit: {model: {name: separable, kernel_size: 3}}",
        "fit.model.kernel_size: there is no such key. "
        "Another model has it; known here: name, filters, dropout.",
    ),
    ("fit: {model: {name: separable, filter: [3]}}", "Did you mean fit.model.filters?"),
    ("fit: {model: {name: separable, epochs: 3}}", "Did you mean fit.epochs?"),
    ("fit: {model: {name: 3}}", "fit.model.name: must be convnet or separable; received 3"),
    ("fit: {model: convnet}", "fit.model: must be a section with keys (name, filters, kernel_size"),
    (
        "fit: {model: {name: separable, dropout: 1.0}}",
        "fit.model.dropout: must be less than 1; received 1.0",
    ),
    ("fit: {model: {dropout: 1.0}}", "fit.model.dropout: must be less than 1; received 1.0"),
    ("fit: {model: {grayscale: 1}}", "fit.model.grayscale: must be true or false; received 1"),
    ("fit: {monitor: accuracy}", "Did you mean val_accuracy?"),
    (
        "fit: {metrics: [auc], monitor: val_macro_f1}",
        "monitor is val_macro_f1; for that set metrics: [auc, macro_f1]",
    ),
    (
        "fit: {metrics: [macro_f2]}",
        "fit.metrics.0: must be auc, balanced_accuracy, macro_f1 or top_5; received",
    ),
    (
        "finetune: {metrics: [auc], then: [{epochs: 2}]}",
        "then.0.metrics must be the same as metrics, because all steps are in one history; they "
        "are [] and ['auc']",
    ),
]


@pytest.mark.parametrize(("text", "expected"), WRONG, ids=[text for text, _ in WRONG])
def test_a_wrong_line_is_named(write, text, expected):
    (line,) = mistakes(write(f"{text}\n{MINIMAL}"))
    assert line.startswith("config.yaml:1: ")
    assert expected in line


WRONG_DATA = [
    ("{}", "data.source: is missing. Image folder, CSV manifest"),
    ("", "data: must be a section with keys (source"),
    ("photos/", "data: must be a section with keys (source"),
    ("{source: 3}", "data.source: must be a text; received 3"),
    ("{source: digits, image_size: [180]}", "must be [height, width] in whole pixels"),
    ("{source: digits, image_size: 180x180}", "must be [height, width] in whole pixels"),
    ("{source: digits, image_size: 2}", "must be between 4 and 4096 pixels; received 2"),
    ("{source: digits, background: [0, 0, 256]}", "must be less than or equal to 255"),
    ("{source: digits, range: 4095}", "data.range: must be auto, or [low, high] in whole numbers"),
    ("{source: digits, range: [0, 0.5]}", "data.range: must be auto, or [low, high] in whole"),
    ("{source: digits, range: [9, 9]}", "data.range: must rise, and lie between 0 and 65535"),
    ("{source: digits, range: [0, 65536]}", "data.range: must rise, and lie between 0 and 65535"),
    ("{source: digits, split: {val: 0.1}}", "Did you mean data.split.validation?"),
    ("{source: digits, split: {validation: 0.6, test: 0.5}}", "must leave images for training"),
    ("{source: digits, on_bad: ignore}", "data.on_bad: must be error or skip"),
    ("{source: digits, classes: [cat]}", "data.classes: must be a list of at least two class"),
    ("{source: digits, classes: cat}", "data.classes: must be a list of at least two class"),
    ("{source: digits, classes: [cat, true]}", "data.classes: must be a list of at least two"),
    ("{source: digits, train_per_class: 0}", "data.train_per_class: must be greater than or equal"),
    ("{source: digits, label_pattern: cat}", "data.label_pattern: must have one group in parenth"),
    (
        "{source: digits, label_pattern: '*.jpg'}",
        "data.label_pattern: must be a regular expression",
    ),
    ("{source: l.csv, columns: {paht: id}}", "Did you mean data.columns.path?"),
    ("{source: l.csv, columns: id}", "data.columns: must be a section with keys (path, label,"),
    ("{source: l.csv, columns: {path: 0}}", "data.columns.path: must be the name of a column or"),
    ("{source: l.csv, columns: {path: ''}}", "data.columns.path: must be the name of a column or"),
    ("{source: l.csv, columns: {path: true}}", "data.columns.path: must be the name of a column"),
    (
        "{source: l.csv, columns: {label: [a]}}",
        "data.columns.label: must be a column, or a list of",
    ),
    (
        "{source: l.csv, columns: {label: [a, a]}}",
        "data.columns.label: must be a column, or a list",
    ),
    ("{source: l.csv, columns: {path: 1, label: b}}", "data.columns: columns go either all by nam"),
    ("{source: l.csv, columns: {suffix: jpg}}", "data.columns.suffix: must be a suffix with its d"),
    ("{source: l.csv, columns: {folder: [1]}}", "data.columns.folder: must be a folder, or a list"),
    ("{source: l.csv, columns: {}, label_pattern: (a)}", "data: columns say that a manifest has"),
]


@pytest.mark.parametrize(("text", "expected"), WRONG_DATA, ids=[text for text, _ in WRONG_DATA])
def test_a_wrong_data_section_is_named(write, text, expected):
    (line,) = mistakes(write(f"seed: 1\ndata: {text}\n"))
    assert line.startswith("config.yaml:2: ")
    assert expected in line


@pytest.mark.parametrize("key", ["extract_features", "finetune"])
def test_images_are_not_mixed_in_cached_views(write, key):
    text = f"augment: {{flip: horizontal, mixup: 0.2, cutmix: 1}}\n{MINIMAL}"
    (line,) = mistakes(write(text + f"{key}: {{views: 8}}\n"))
    assert f"{key}.views is 8" in line
    assert "augment.mixup and augment.cutmix would mix with another" in line
    for views in (1, "unlimited"):
        load_config(write(text + f"{key}: {{views: {views}}}\n"))


def test_classes_may_be_written_as_numbers(write):
    config = load_config(write("data: {source: digits, classes: [1, seven, 0]}\n"))
    assert config.data.classes == ("1", "seven", "0")


def test_all_mistakes_at_once_in_the_order_of_the_file(write):
    lines = mistakes(write("seed: x\nfit:\n  epochs: 0\n  batchsize: 2\ndata: {source: 1}\n"))
    assert [line.split(": ")[:2] for line in lines] == [
        ["config.yaml:1", "seed"],
        ["config.yaml:3", "fit.epochs"],
        ["config.yaml:4", "fit.batchsize"],
        ["config.yaml:5", "data.source"],
    ]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("fit.epochs", "--set fit.epochs: must be key.path=value"),
        ("=3", "--set =3: must be key.path=value"),
        ("fit..epochs=3", "must be key.path=value"),
        ("fit.epochs=0", "--set fit.epochs=0: fit.epochs: must be greater than or equal to 1"),
        ("fit.epcohs=3", "fit.epcohs: there is no such key. Did you mean fit.epochs?"),
        ("fit.epochs=[1", "--set fit.epochs=[1: not valid YAML"),
    ],
)
def test_a_wrong_override_is_named(write, override, expected):
    (line,) = mistakes(write(MINIMAL), [override])
    assert expected in line


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b"- 1\n- 2\n", "must be sections"),
        (b"just text", "must be sections"),
        (b"data: {source: caf\xe9}", "not a text in UTF-8"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "not a text in UTF-8"),
    ],
)
def test_a_file_that_is_no_config(tmp_path, content, expected):
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    (line,) = mistakes(path)
    assert expected in line


def test_a_missing_file_suggests_the_nearest(write, tmp_path):
    write(MINIMAL)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "confg.yaml")
    assert "there is no such file" in caught.value.message
    assert "config.yaml" in caught.value.advice


def test_a_folder_is_no_config(tmp_path):
    (line,) = mistakes(tmp_path)
    assert "is a directory" in line


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load_config(path).data.source == "digits"


def test_every_key_is_documented():
    def undocumented(model, prefix):
        docs = field_docs(model)
        for name, field in model.model_fields.items():
            if not docs.get(name):
                yield prefix + name
            for section in sections_in(field.annotation):
                yield from undocumented(section, f"{prefix}{name}.")

    assert not list(undocumented(Config, ""))


def test_a_model_without_a_name_is_a_convnet(write):
    model = load_config(write(MINIMAL), ["fit.model.kernel_size=5"]).fit.model
    assert (model.name, model.kernel_size) == ("convnet", 5)
    model = load_config(write(MINIMAL), ["fit.model.name=separable"]).fit.model
    assert model.model_dump() == {
        "name": "separable",
        "filters": (32, 64, 128, 256, 512),  # the book's
        "dropout": 0.5,
    }


def test_a_config_with_another_model_survives_writing_and_reading(write, tmp_path):
    config = load_config(write(MINIMAL), ["fit.model={name: separable, filters: [8]}"])
    again = tmp_path / "again.yaml"
    again.write_text(dump_config(config), encoding="utf-8")
    assert load_config(again) == config
