"""Checkpoints of the authors' TensorFlow U-GAT-IT: written by its Saver, imported, written back."""

import os
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from PIL import Image

from ganattn import cli, interop, methods
from ganattn.config import find, from_dict, load
from ganattn.errors import ConfigError, ForeignFileError
from ganattn.inference.authors import read_authors
from ganattn.interop.tensorflow_files import (
    find_tensorflow,
    read_tensorflow,
    write_tensorflow,
)
from ganattn.runs.checkpoints import restore_variables

TORCH = Path(__file__).parent / "golden" / "torch" / "ugatit_tiny.pt"
SCOPES = {
    "generator_a2b": "generator_B",
    "generator_b2a": "generator_A",
    **{
        f"discriminator_{kind}_{domain}": f"discriminator_{domain.upper()}/{kind}"
        for kind in ("global", "local")
        for domain in "ab"
    },
}
# Their scopes of layers, and ours, for two residual blocks and two convolutions with stride 2.
GENERATOR = """
conv/conv2d stem                                conv_0/conv2d down1
ins_norm stem_norm                              conv_1/conv2d down2
ins_norm_0 down1_norm                           ins_norm_1 down2_norm
resblock_0/res1/conv_0/conv2d encode1/conv1     resblock_0/res2/conv_0/conv2d encode1/conv2
resblock_1/res1/conv_0/conv2d encode2/conv1     resblock_1/res2/conv_0/conv2d encode2/conv2
resblock_0/res1/instance_norm encode1/norm1     resblock_0/res2/instance_norm encode1/norm2
resblock_1/res1/instance_norm encode2/norm1     resblock_1/res2/instance_norm encode2/norm2
CAM_logit attention/shared                      conv_1x1/conv2d attention
MLP/linear_0/dense mlp1                         MLP/linear_1/dense mlp2
MLP/gamma/dense gamma                           MLP/beta/dense beta
adaptive_resblock0/res1/conv_0/conv2d decode1/conv1
adaptive_resblock0/res2/conv_0/conv2d decode1/conv2
adaptive_resblock1/res1/conv_0/conv2d decode2/conv1
adaptive_resblock1/res2/conv_0/conv2d decode2/conv2
adaptive_resblock0/res1/instance_layer_norm decode1/norm1
adaptive_resblock0/res2/instance_layer_norm decode1/norm2
adaptive_resblock1/res1/instance_layer_norm decode2/norm1
adaptive_resblock1/res2/instance_layer_norm decode2/norm2
up_conv_0/conv2d up1                            up_conv_1/conv2d up2
layer_ins_norm_0 up1_norm                       layer_ins_norm_1 up2_norm
G_logit/conv2d output
"""
DISCRIMINATOR = """
conv_0 conv1    conv_1 conv2    CAM_logit attention/shared    conv_1x1/conv2d attention
D_logit classifier
"""


def scopes_of(network):
    """{our scope: theirs} of one network."""
    words = (GENERATOR if network.startswith("gen") else DISCRIMINATOR).split()
    table = dict(zip(words[1::2], words[::2], strict=True))
    if network.startswith("dis"):
        last = "conv3" if "global" in network else "conv2"
        table[last] = "conv_last"
    return table


def config_of(**fields):
    config = load(find("ugatit"), "tiny,tf")
    with config.unlocked():
        config.method.update(num_residual_blocks=2, **fields)
    return config


def example(**fields):
    """(config, our variables, the same by their names)."""
    config, random = config_of(**fields), np.random.default_rng(0)
    method, ours, theirs = methods.create(config), {}, {}
    for network, scope in SCOPES.items():
        table, ours[network] = scopes_of(network), {}
        shapes = flatten_dict(method.shapes(network)).items()
        for path, spec in sorted(shapes, key=lambda item: item[0][-1] == "v"):
            *layer, name = path[1:]
            value = random.normal(0.5, 0.1, spec.shape).astype(np.float32)
            if name == "v":
                kernel = ours[network]["params", *layer, "kernel"]
                u = ours[network]["spectral", *layer, "u"]
                value = kernel.reshape(-1, kernel.shape[-1]) @ u
                value /= np.linalg.norm(value)
            else:
                key = f"{scope}/{table['/'.join(layer)]}/{name}"
                is_pointwise = layer == ["attention"] and name == "kernel"
                theirs[key] = value[None, None] if is_pointwise else value
                theirs[key] = value[None] if name == "u" else theirs[key]
            ours[network][path] = value
        ours[network] = unflatten_dict(ours[network])
    return config, ours, theirs


def save(folder, theirs, name="UGATIT_light.model", step=1000):
    """As their code: a Saver of all variables, with those of Adam; returns the prefix."""
    tf = pytest.importorskip("tensorflow")
    values = {f"{key}{end}": x for key, x in theirs.items() for end in ("", "/Adam", "/Adam_1")}
    values |= {"beta1_power": np.float32(0.5), "beta2_power_1": np.float32(0.9)}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for key, value in values.items():
            tf.compat.v1.get_variable(key, initializer=value)
        session.run(tf.compat.v1.global_variables_initializer())
        return tf.compat.v1.train.Saver().save(session, os.fspath(folder / name), step)


def by_network(theirs):
    """{network: {the rest of the name: array}}, as files are read."""
    return {
        scope: {k.removeprefix(f"{scope}/"): x for k, x in theirs.items() if k.startswith(scope)}
        for scope in SCOPES.values()
    }


def assert_same(tree, expected):
    """v is computed, so it may be rounded."""
    tree, expected = flatten_dict(tree), flatten_dict(expected)
    assert tree.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_allclose(tree[path], value, rtol=1e-5 if path[-1] == "v" else 0)


def test_a_checkpoint_goes_through_a_run_and_back(tmp_path, monkeypatch, capsys):
    """From a folder that was moved; the files show all that the config of the run needs."""
    monkeypatch.chdir(tmp_path)
    config, ours, theirs = example()
    prefix = Path(save(tmp_path, theirs))
    assert prefix.name == "UGATIT_light.model-1000"
    (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "/their/{prefix.name}"\n')

    def run(*arguments):
        assert cli.main(list(arguments)) == 0, capsys.readouterr().err

    run("import", "ugatit", ".", "--profile", "tf", "--workdir", "run")
    run("import", "ugatit", f"{prefix.name}.index", "--workdir", "again")
    variables, meta = restore_variables(Path("run/checkpoints"))
    assert_same(variables, ours)
    imported = from_dict(meta["config"])
    fields = interop.method_fields("ugatit", by_network(theirs))
    assert fields == {name: config.method[name] for name in fields} and fields["profile"] == "tf"
    assert {name: imported.method[name] for name in fields} == fields
    assert imported.optimizer.staircase == config.optimizer.staircase == 10_000
    assert restore_variables(Path("again/checkpoints"))[1]["config"] == meta["config"]

    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(image).save("a.png")
    run("translate", "--workdir", "run", "--input", "a.png", "--output", "out", "--size", "32x32")
    with Image.open("out/a.png") as image:
        assert image.size == (32, 32)

    run("export", "--workdir", "run", "--format", "authors", "--output", "back")
    back = find_tensorflow("back")
    assert back == Path("back/UGATIT.model-0")
    found = read_tensorflow(back, list(SCOPES.values()))
    assert_same(found, by_network(theirs))


def test_networks_equal_those_of_the_authors_code(golden_folder):
    """Generators, and one application of discriminators in training, of a checkpoint of theirs."""
    folder = golden_folder / "ugatit_tensorflow"
    config, variables = read_authors(folder, "ugatit")
    method, expected = methods.create(config), np.load(folder / "outputs.npz")
    images = {name: expected[name] for name in "ab"}

    def apply(variables, images):
        outputs = {}
        for direction in ("a2b", "b2a"):
            output = method.generate(variables, {"image": images[direction[0]]}, direction)
            outputs[direction] = output.images
            outputs[f"{direction}_cam"] = output.extras["cam_logits"]
        for kind in ("local", "global"):
            name = f"discriminator_{kind}_a"
            network, state = method.networks[name], variables[name]
            output, _ = network.apply(state, images["a"], 1, True, mutable=["spectral"])
            outputs |= {f"{kind}_a": output.logits, f"{kind}_a_cam": output.extras["cam_logits"]}
        return outputs

    outputs = jax.jit(apply)(variables, images)
    assert set(outputs) == set(expected) - {"a", "b"}
    for name, value in outputs.items():
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(value / scale, expected[name] / scale, rtol=0, atol=5e-5)


def test_the_full_generator():
    """Its dense layer shows the size of images; earlier code had one more classifier."""
    config, ours, theirs = example(light=False)
    theirs["generator_A/CAM_logit/dense/kernel"] = np.zeros((16, 1), np.float32)
    networks = by_network(theirs)
    fields = interop.method_fields("ugatit", networks)
    assert fields == {name: config.method[name] for name in fields}
    assert fields["image_size"] == 32 and not fields["light"]
    assert_same(interop.from_authors("ugatit", networks), ours)


def missing(theirs):
    del theirs["generator_B/MLP/gamma/dense/bias"]


def without_spectral_norm(theirs):
    del theirs["discriminator_A/local/conv_0/u"]


def without_width(theirs):
    del theirs["generator_B/conv/conv2d/bias"]


def another_shape(theirs):
    theirs["generator_B/conv_1/conv2d/kernel"] = np.zeros((3, 3, 8, 17), np.float32)


def another_rank(theirs):
    theirs["generator_B/conv_1x1/conv2d/kernel"] = np.zeros((32, 16), np.float32)


@pytest.mark.parametrize(
    ("change", "flags", "message"),
    [
        (missing, (), "network 'generator_B' has 1 missing (MLP/gamma/dense/bias) keys"),
        (without_width, (), "network 'generator_B' has 1 missing (conv/conv2d/bias) keys"),
        (without_spectral_norm, (), "network 'discriminator_A/local' has 1 missing (conv_0/u)"),
        (another_shape, (), "generator_a2b/params/down2/kernel has shape (3, 3, 8, 17) and not"),
        (another_rank, (), "'conv_1x1/conv2d/kernel' of network 'generator_B' has shape (32, 16)"),
        (dict.clear, (), "has no variables of genA2B, "),
        (None, ("--profile", "pytorch"), "other code: import it with --profile tf"),
        (None, (), "TensorFlow checkpoints need TensorFlow"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, monkeypatch, capsys, change, flags, message):
    _, _, theirs = example()
    if change is not None:
        change(theirs)
    networks = by_network(theirs) if theirs else {"other": {"x": np.zeros(1, np.float32)}}
    write_tensorflow(tmp_path / "model-1", networks)
    if "need" in message:
        monkeypatch.setitem(sys.modules, "tensorflow", None)
    workdir = str(tmp_path / "run")
    code = cli.main(["import", "ugatit", str(tmp_path / "model-1"), *flags, "--workdir", workdir])
    err = capsys.readouterr().err
    assert code == 2 and err.startswith("ganattn: ") and err.count("\n") == 1, err
    assert message in err and not Path(workdir).exists()


def test_files_of_the_other_code(capsys, tmp_path):
    """A file of PyTorch is not of the profile tf, and no other system has code in TensorFlow."""
    with pytest.raises(ConfigError, match="other code: import it with --profile pytorch"):
        read_authors(TORCH, "ugatit", load(find("ugatit"), "tf"))
    (tmp_path / "x.index").write_bytes(b"nothing")
    with pytest.raises(ForeignFileError, match="x: corrupt, or not a TensorFlow checkpoint"):
        read_authors(tmp_path / "x", "ugatit")
    assert cli.main(["import", "cyclegan", str(tmp_path / "x"), "--workdir", "run"]) == 2
    assert "profile 'tf' does not apply: cyclegan has" in capsys.readouterr().err
