"""Authors' names to ours and back, and what does not fit is named."""

from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from ganattn import interop, methods
from ganattn.config import find, load
from ganattn.errors import CheckpointError, ConfigError, ForeignFileError
from ganattn.inference import authors
from ganattn.inference.authors import read_authors
from ganattn.interop.torch_files import read_torch


@pytest.fixture
def networks(golden_folder):
    """A fresh copy of a small checkpoint of all six networks."""
    found = read_torch(golden_folder / "torch" / "ugatit_tiny.pt")
    return {name: dict(arrays) for name, arrays in found.items()}


def test_a_subset_goes_there_and_back(networks):
    part = {"genB2A": networks["genB2A"], "disLA": networks["disLA"]}
    variables = interop.from_authors("ugatit", part)
    assert set(variables) == {"generator_b2a", "discriminator_local_a"}
    assert set(variables["generator_b2a"]) == {"params", "rho"}
    assert set(variables["discriminator_local_a"]) == {"params", "spectral"}
    back = interop.to_authors("ugatit", variables)
    assert set(back) == set(part)
    for name, arrays in part.items():
        assert back[name].keys() == arrays.keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(back[name][key], array, strict=True)


def test_the_prefix_of_data_parallel_is_dropped(networks):
    wrapped = {"genA2B": {f"module.{key}": x for key, x in networks["genA2B"].items()}}
    one = interop.from_authors("ugatit", wrapped)
    other = interop.from_authors("ugatit", {"genA2B": networks["genA2B"]})
    jax.tree.map(np.testing.assert_array_equal, one, other)
    fields = interop.method_fields("ugatit", wrapped)
    assert fields["width"] == 4 and fields["num_residual_blocks"] == 1


def test_fields_of_the_method(networks):
    fields = interop.method_fields("ugatit", networks)
    assert fields == {
        "width": 4, "num_residual_blocks": 1, "light": True, "discriminator_layers": (4, 3),
        "profile": "pytorch",
    }  # fmt: skip


def drop(networks):
    del networks["genA2B"]["gamma.weight"]


def add(networks):
    networks["disGA"]["model.99.weight"] = np.zeros(3)


def rename(networks):
    networks["generator"] = networks.pop("genA2B")


def flat(networks):
    networks["genA2B"]["conv1x1.weight"] = np.zeros((4, 8))


def old_code(networks):
    networks["genA2B"]["FC.1.weight"] = networks["genA2B"].pop("FC.2.weight")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, "network 'genA2B' has 1 missing.*gamma.weight"),
        (add, "network 'disGA' has 1 unknown.*model.99.weight"),
        (rename, "ugatit has no network 'generator': expected genA2B"),
        (flat, r"'conv1x1.weight' of network 'genA2B' has shape \(4, 8\)"),
        (old_code, "FC.1.weight"),
        (dict.clear, "ugatit has no network in this file"),
    ],
)
def test_foreign_networks_are_named(networks, change, message):
    change(networks)
    with pytest.raises(ForeignFileError, match=message) as caught:
        interop.from_authors("ugatit", networks)
    assert "\n" not in str(caught.value)


def test_an_unknown_system_is_named():
    with pytest.raises(ConfigError, match=r"unknown system .gan.: use one of .*ugatit"):
        interop.from_authors("gan", {})


def test_arrays_that_do_not_fit_are_named(networks):
    variables = interop.from_authors("ugatit", networks)
    method = methods.create(load(find("ugatit"), "tiny"))
    kernel = variables["generator_a2b"]["params"]["stem"]["kernel"]
    variables["generator_a2b"]["params"]["stem"]["kernel"] = kernel[..., :3]
    message = r"generator_a2b/params/stem/kernel has shape \(7, 7, 3, 3\) and not \(7, 7, 3, 4\)"
    with pytest.raises(CheckpointError, match=message):
        method.create_state(jax.random.key(0), variables)
    with pytest.raises(CheckpointError, match="there is no network 'critic'"):
        method.check_variables({"critic": {}})


def variables_of(method):
    """Small whole numbers in the shapes of every network: exact in all layouts and types."""
    random = np.random.default_rng(0)
    return {
        name: jax.tree.map(
            lambda leaf: random.integers(0, 9, leaf.shape).astype(np.float32), method.shapes(name)
        )
        for name in method.networks
        if name != "perceptual"
    }


SPADE_FORMS = [
    {"norm": "instance"},
    {"use_vae": True, "latent_size": 3},
    {"up_sampling": "more", "crop_size": 64, "discriminator_layers": 2,
     "use_dontcare": True},
    {"width": 2, "up_sampling": "most", "crop_size": 128, "discriminator_scales": 3},
    {"use_vae": True, "up_sampling": "more", "crop_size": 128, "aspect_ratio": 2.0},
    {"use_vae": True, "width": 2, "up_sampling": "most", "crop_size": 256, "use_instances": False},
]  # fmt: skip


@pytest.mark.parametrize(
    ("system", "variant", "fields"),
    [(system, "tiny", {}) for system in interop.systems()]
    + [(system, "tiny", form) for system in ("spade", "dagan") for form in SPADE_FORMS]
    + [("pix2pix", "tiny,pixel", {}), ("guidance", "tiny,trainable", {})]
    + [("cyclegan", "tiny,batch_norm", {}), ("ugatit", "tiny,tf", {})],
)
def test_a_file_of_every_system_goes_there_and_back(system, variant, fields):
    """It determines a method that its arrays fit; the loss networks' files are not needed."""
    config = load(find(system), variant)
    with config.unlocked():
        config.method.update(fields)
    ours = variables_of(methods.create(config))
    options = {name: config.method[name] for name in interop.option_names(system)}
    file = interop.to_authors(system, ours, **options)
    file = {n: {f"module.{key}": x for key, x in arrays.items()} for n, arrays in file.items()}
    back = interop.from_authors(system, file)
    assert back.keys() == ours.keys()
    other = load(find(system))
    found = interop.method_fields(system, file, config.method)
    with other.unlocked():
        other.method.update(found)
    differing = {name for name, value in found.items() if value != config.method[name]}
    assert not differing and set(fields) <= set(found) | {"crop_size", "aspect_ratio"}
    method = methods.create(other)
    method.check_variables(back)
    names = {name for direction in method.directions for name in method.networks_for(direction)}
    assert names <= back.keys()
    if system == "ugatit" and "tf" in variant:  # v, which they do not keep, is computed
        drop_v(back), drop_v(ours)
    jax.tree.map(np.testing.assert_array_equal, back, ours)


def drop_v(variables):
    for name in variables:
        flat = flatten_dict(variables[name])
        kept = {path: leaf for path, leaf in flat.items() if path[-1] != "v"}
        variables[name] = unflatten_dict(kept)


def spade_file(variant="tiny", **fields):
    """(config, a generator in the authors' layout)."""
    config = load(find("spade"), variant)
    with config.unlocked():
        config.method.update(width=1, **fields)
    shapes = methods.create(config).shapes("generator")
    generator = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    return config, interop.to_authors("spade", {"generator": generator})


@pytest.mark.parametrize("variant", ["cityscapes", "ade20k", "coco", "facades1024"])
@pytest.mark.parametrize("gaugan", [False, True])
def test_fields_of_the_authors_data_sets(variant, gaugan):
    config, networks = spade_file(variant, use_vae=gaugan, latent_size=4)
    values = interop.method_fields("spade", networks, config.method)
    names = {"width", "use_vae", "num_classes", "use_instances", "use_dontcare", "up_sampling"}
    assert names | ({"crop_size", "aspect_ratio", "latent_size"} if gaugan else set()) <= set(
        values
    )
    assert values == {name: config.method[name] for name in values}


CLASSES = {"num_classes": 4, "use_instances": True}
GAUGAN = {"use_vae": True, "crop_size": 128, "aspect_ratio": 2.0, "up_sampling": "more"}


@pytest.mark.parametrize(
    ("fields", "given", "expected"),
    [
        ({}, {}, r"5 channels of labels leave open --config\.method\.num_classes=3 or 4 or 5, "
         r".*; these blocks leave open --config\.method\.up_sampling=more or normal: give"),
        ({}, {"up_sampling": "more"}, "leave open .*num_classes.*use_dontcare.*use_instances"),
        ({}, {"num_classes": 4, "up_sampling": "more"}, "use_dontcare.*use_instances=F"),
        ({}, CLASSES, "config.method: these blocks leave open --config.method.up_sampling"),
        ({}, {**CLASSES, "up_sampling": "most"}, "these blocks contradict up_sampling=most"),
        ({}, {"num_classes": 9, "up_sampling": "more"}, "5 channels .* contradict num_classes=9"),
        ({}, {**CLASSES, "up_sampling": "more"},
         {**CLASSES, "use_dontcare": False, "up_sampling": "more"}),
        ({}, {"num_classes": 5, "up_sampling": "normal"},
         {"num_classes": 5, "use_dontcare": False, "use_instances": False}),
        ({}, {"condition_channels": 5, "up_sampling": "normal"},
         {"condition_channels": 5, "use_instances": False}),
        (GAUGAN, CLASSES, "first map of 2 pixels leave open .*crop_size=128 or 64"),
        (GAUGAN, {**CLASSES, "crop_size": 128}, {"up_sampling": "more", "aspect_ratio": 2.0}),
        (GAUGAN, {**CLASSES, "crop_size": 32, "aspect_ratio": 1.0, "up_sampling": "normal"},
         "2 pixels contradict up_sampling=normal, crop_size=32, aspect_ratio=1.0"),
    ],
)  # fmt: skip
def test_what_weights_do_not_show_is_asked_for(fields, given, expected):
    _, networks = spade_file(**fields)
    if isinstance(expected, dict):
        values = interop.method_fields("spade", networks, given)
        assert expected == {name: values[name] for name in expected}
        return
    with pytest.raises(ConfigError, match=expected) as caught:
        interop.method_fields("spade", networks, given)
    assert "\n" not in str(caught.value)


def test_a_generator_of_another_kind_is_refused():
    """One without spectral normalization, and one that the authors' code cannot build."""
    _, networks = spade_file()
    arrays = networks["G"]
    arrays["head_0.conv_0.weight"] = arrays.pop("head_0.conv_0.weight_orig")
    with pytest.raises(ForeignFileError, match="no spectral normalization"):
        interop.from_authors("spade", networks)
    method = methods.create(load(find("dagan"), "tiny,all_levels"))
    with pytest.raises(CheckpointError, match=r"network 'G' differs from this one in .*_level/"):
        interop.to_authors("dagan", variables_of(method))


def test_a_file_without_what_determines_the_method_is_refused(networks):
    with pytest.raises(ForeignFileError, match=r"ugatit needs the key 'FC\.0\.weight'"):
        interop.method_fields("ugatit", {"genA2B": {"DownBlock.1.weight": np.zeros((4, 3, 7, 7))}})


def test_read_authors_takes_the_sizes_from_the_file(golden_folder):
    config, variables = read_authors([golden_folder / "torch" / "ugatit_tiny.pt"], "ugatit")
    assert config.method.width == 4 and config.method.light
    assert len(variables) == 6
    state = methods.create(config).create_state(jax.random.key(0), variables)
    assert state.variables.keys() == variables.keys()


def test_one_network_a_file(golden_folder, networks, tmp_path, monkeypatch):
    """Named by the file, or in front of it."""
    names = {"latest_net_genA2B.pth": "genA2B", "other.pth": "disGA"}
    monkeypatch.setattr(authors, "read_torch", lambda path: networks[names[Path(path).name]])
    files = [tmp_path / "latest_net_genA2B.pth", f"disGA={tmp_path}/other.pth"]
    _, variables = read_authors(files, "ugatit")
    assert set(variables) == {"generator_a2b", "discriminator_global_a"}
    with pytest.raises(ForeignFileError, match="without its name: write NAME=FILE"):
        read_authors(tmp_path / "other.pth", "ugatit")
