"""What config files are built from, the checks of fields, and configs of earlier versions."""

import json

import numpy as np
import pytest

from ganattn import methods
from ganattn.config import (
    Config,
    base,
    check,
    choose,
    dataset,
    epoch_schedule,
    find,
    folder,
    from_dict,
    load,
    set_method,
    short,
    small,
    to_dict,
)
from ganattn.errors import CheckpointError, ConfigError
from ganattn.runs import workdir

FILES = sorted(folder().glob("*.py"))


@pytest.mark.parametrize(
    ("value", "rules", "message"),
    [
        ("c", {"choices": ("a", "b")}, "config.method.x is 'c': use one of a, b"),
        (5, {"choices": (3, 4)}, "config.method.x is 5: use one of 3, 4"),
        ("", {"required": "the folder"}, "config.method.x is empty: set it to the folder"),
        (0, {"least": 1}, "config.method.x is 0: give at least 1"),
        (1.0, {"below": 1}, "config.method.x is 1.0: give below 1"),
        (-1, {"least": 0, "below": 100}, "config.method.x is -1: give at least 0 and below 100"),
        (6, {"multiple_of": 4}, "config.method.x is 6: give a multiple of 4"),
        (-3, {"multiple_of": 4, "least": 0}, "is -3: give a multiple of 4, at least 0"),
        (float("nan"), {"least": 0}, "config.method.x is nan: give at least 0"),
    ],
)
def test_a_wrong_value_is_named_with_its_remedy(value, rules, message):
    with pytest.raises(ConfigError) as caught:
        check(Config({"method": {"x": value}}), "method.x", **rules)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "rules"),
    [
        ("a", {"choices": ("a", "b")}),
        ("data", {"required": "the folder"}),
        (8, {"multiple_of": 4, "least": 8, "below": 9}),
        (0.0, {"least": 0, "below": 1}),
    ],
)
def test_a_right_value_passes(value, rules):
    check(Config({"method": {"x": value}}), "method.x", **rules)


def test_fields_that_a_config_lacks_are_not_checked():
    check(base(), "method.no_such_field", least=3)
    check(base(), "no_such_section.field", choices=())


def test_variants_of_the_shared_helpers():
    config = base()
    config.method.width = 64
    config.optimizer.epoch_steps = 1
    epoch_schedule(config, learning_rate=1e-3, epoch_steps=10)
    assert (config.optimizer.decay_start_step, config.optimizer.total_steps) == (1_000, 2_000)
    variants = {"maps": dataset("maps", 7, width=3), "wide": set_method(width=9)}
    choose(config, " maps, wide", variants)
    assert config.data.path == "data/maps" and config.method.width == 9
    assert config.optimizer.total_steps == 1_400
    with config.unlocked():
        small(config, size=16, batch_size=4, width=2)
        short(config, steps=20, every=5)
    assert (config.data.source, config.data.load_size, config.data.batch_size) == (
        "procedural", 16, 4,
    )  # fmt: skip
    assert (config.optimizer.decay_start_step, config.optimizer.total_steps) == (10, 20)
    assert (config.train.log_every, config.train.checkpoint_every) == (1, 5)
    with pytest.raises(ConfigError, match="unknown config variant 'wdie': use one of maps, wide"):
        choose(config, "wdie", variants)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_config_has_the_shared_fields(path):
    config = load(path)
    assert 0 <= config.method.ema_decay < 1 and config.method.ema_start_step >= 0
    assert config.optimizer.accumulate_steps == 1
    assert path.read_text(encoding="utf-8").startswith('"""')


def earlier(config):
    """The config as JSON, as the first release wrote it."""
    values = json.loads(json.dumps(to_dict(config)))
    for name in ("num_classes", "use_dontcare", "use_instances", "condition_channels"):
        del values["data"][name]
    del values["optimizer"]["accumulate_steps"], values["method"]["ema_decay"]
    del values["method"]["ema_start_step"], values["data"]["held_out_percent"]
    return values


@pytest.mark.parametrize("name", ["spade", "ugatit", "pix2pix"])
def test_configs_of_earlier_runs_load_and_resume(tmp_path, name):
    config = load(find(name), "tiny")
    assert from_dict(earlier(config)) == config
    methods.create(from_dict(earlier(config)))
    (tmp_path / "config.json").write_text(json.dumps(earlier(config)))
    workdir.refuse_other_method(config, tmp_path)
    with config.unlocked():
        config.method.width = 77
    with pytest.raises(CheckpointError, match=r"config\.method\.width is \d+ there and 77 here"):
        workdir.refuse_other_method(config, tmp_path)


def test_fields_of_the_data_follow_those_of_the_method():
    config = load(find("spade"), "tiny")
    config.method.update(num_classes=7, use_dontcare=True, use_instances=False)
    assert (config.data.num_classes, config.data.use_dontcare) == (7, True)
    assert not config.data.use_instances
    assert np.isclose(config.data.aspect_ratio, config.method.aspect_ratio)
