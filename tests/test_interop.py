"""Authors' names to ours and back, and what does not fit is named."""

from pathlib import Path

import jax
import numpy as np
import pytest

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
        "width": 4, "num_residual_blocks": 1, "light": True, "discriminator_layers": (4, 3)
    }  # fmt: skip


def drop(networks):
    del networks["genA2B"]["gamma.weight"]


def add(networks):
    networks["disGA"]["model.99.weight"] = np.zeros(3)


def rename(networks):
    networks["generator"] = networks.pop("genA2B")


def old_code(networks):
    networks["genA2B"]["FC.1.weight"] = networks["genA2B"].pop("FC.2.weight")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, "network 'genA2B' has 1 missing.*gamma.weight"),
        (add, "network 'disGA' has 1 unknown.*model.99.weight"),
        (rename, "ugatit has no network 'generator': expected genA2B"),
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


@pytest.mark.parametrize(
    ("system", "variant"),
    [(system, "tiny") for system in interop.systems()]
    + [(system, f"tiny,{v}") for system in ("spade", "dagan") for v in ("gaugan", "instance_norm")]
    + [("pix2pix", "tiny,pixel"), ("guidance", "tiny,trainable"), ("cyclegan", "tiny,batch_norm")],
)
def test_a_file_of_every_system_goes_there_and_back(system, variant):
    """It determines a method that its arrays fit; the loss networks' files are not needed."""
    method = methods.create(load(find(system), variant))
    ours = variables_of(method)
    file = interop.to_authors(system, ours)
    file = {n: {f"module.{key}": x for key, x in arrays.items()} for n, arrays in file.items()}
    back = interop.from_authors(system, file)
    assert back.keys() == ours.keys()
    jax.tree.map(np.testing.assert_array_equal, back, ours)
    config = load(find(system))
    with config.unlocked():
        config.method.update(interop.method_fields(system, file))
    other = methods.create(config)
    other.check_variables(back)
    names = {name for direction in other.directions for name in other.networks_for(direction)}
    assert names <= back.keys()


@pytest.mark.parametrize(
    ("variant", "fields"),
    [
        ("cityscapes", ("num_classes", "use_instances", "use_dontcare", "up_sampling")),
        ("ade20k", ("num_classes", "use_instances", "use_dontcare", "up_sampling")),
        ("coco", ("num_classes", "use_instances", "use_dontcare", "up_sampling")),
        ("celebamask", ("num_classes", "use_instances", "use_dontcare", "up_sampling")),
        ("facades1024,instance_norm", ("num_classes", "use_instances", "norm")),
    ],
)
@pytest.mark.parametrize("gaugan", [False, True])
def test_fields_of_the_authors_data_sets(variant, fields, gaugan):
    config = load(find("spade"), variant)
    with config.unlocked():
        config.method.update(width=1, discriminator_width=1, use_vae=gaugan, latent_size=4)
    shapes = methods.create(config).shapes("generator")
    generator = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    networks = interop.to_authors("spade", {"generator": generator})
    values = interop.method_fields("spade", networks)
    sizes = ("crop_size", "aspect_ratio", "latent_size")
    known = gaugan or variant in ("cityscapes", "ade20k", "coco")
    fields = ("width", "use_vae", *fields, *(sizes[: 3 if gaugan else 2] if known else ()))
    assert {name: values[name] for name in fields} == {name: config.method[name] for name in fields}
    assert known or "crop_size" not in values


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
