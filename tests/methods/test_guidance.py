"""What spatial guidance alone promises: the authors' numbers, its schemes, and its memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import arrays_under, assert_equal, close, networks_of, nhwc, train_on

from ganattn import interop, memory, methods, parallel
from ganattn.config import find, load
from ganattn.errors import ConfigError
from ganattn.layers.attention import enlarge, to_unit_range
from ganattn.networks.guided_discriminators import PostHocDiscriminator, TrainableDiscriminator
from ganattn.runs.checkpoints import Checkpoints

UNPAIRED = {
    "generator/adversarial": (("G_A", "G_B"), lambda m: 1),
    "generator/cycle": (("cycle_A", "cycle_B"), lambda m: 10),
    "generator/identity": (("idt_A", "idt_B"), lambda m: 10 * m.weights.identity),
    "generator/total": (("G",), lambda m: 1),
    "discriminator/a": (("D_B",), lambda m: 1),
    "discriminator/b": (("D_A",), lambda m: 1),
    "discriminator/total": (("D_A", "D_B"), lambda m: 1),
}
OLDER_NAMES = {"G_A": "g_adv_A", "G_B": "g_adv_B", "G": "g_total", "D_A": "d_A", "D_B": "d_B"}
DECOMPOSED = UNPAIRED | {
    "generator/guided_adversarial": (("G_A_2", "G_B_2"), lambda m: 1),
    "generator/guided_cycle": (("cycle_A_2", "cycle_B_2"), lambda m: 10),
}
PAIRED = {
    "generator/adversarial": (("G_GAN",), lambda m: 1),
    "generator/l1": (("G_L1",), lambda m: m.lambda_l1),
    "generator/total": (("G",), lambda m: 1),
    "discriminator/real": (("D_real",), lambda m: 1),
    "discriminator/fake": (("D_fake",), lambda m: 1),
    "discriminator/total": (("D",), lambda m: 1),
}
CASES = {
    "rmult_steps": {"guidance": "in_iteration", "lambda_identity": 0.5, "image_size": 64},
    "trainable": {"guidance": "in_iteration", "lambda_identity": 0.2},
    "buffer": {"lambda_identity": 0.5, "buffer_size_a": 3, "buffer_size_b": 3},
    "decomposed": {"guidance": "decomposed", "lambda_identity": 0.5},
    "supervised": {"dropout": False, "buffer_size": 3},
}


def method_of(variant="", name="guidance", **fields):
    config = load(find(name), variant)
    with config.unlocked():
        config.method.update(fields)
        config.optimizer.update(decay_start_step=-1)
    return methods.create(config)


def batches(count, size=8, dtype=np.float64):
    """Images, the same ones from time to time, with their indices in their domains."""
    random = np.random.default_rng(0)
    images = random.uniform(-1, 1, (2, 12, 32, 32, 3)).astype(dtype)
    batches = []
    for _ in range(count):
        a, b = (random.permutation(12)[:size].astype(np.int32) for _ in "ab")
        batches.append({"a": images[0][a], "b": images[1][b], "index_a": a, "index_b": b})
    return batches


def shapes(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def first_translation(method, variables, images):
    """The output of generator a2b, and discriminator b's map of it."""
    generator, guide = (method.networks[name] for name in ("generator_a2b", "discriminator_b"))
    translation = generator.apply(variables["generator_a2b"], images).images
    output = guide.apply(variables["discriminator_b"], translation)
    return translation, to_unit_range(output.heatmap)


class Golden:
    """One file of the authors' numbers, our method for it, and its step, compiled once."""

    def __init__(self, folder, case):
        self.case = case
        self.file = np.load(folder / f"guidance_{case}.npz")
        self.system = "guidance_supervised" if case == "supervised" else "guidance"
        self.networks = networks_of(self.file, self.system)
        fields = interop.method_fields(self.system, self.networks)
        fields |= {"image_size": 32} | CASES[case]
        if self.system == "guidance":
            fields["pool_size"] = 0
        self.method = method_of("", self.system, **fields)
        self.step = jax.jit(self.method.train_step)

    def start(self):
        variables = interop.from_authors(self.system, self.networks)
        return self.method.create_state(jax.random.key(0), variables)

    def batch(self, i):
        real = {d: nhwc(self.file[f"step{i}/real_{d.upper()}"]).astype(float) for d in "ab"}
        if f"step{i}/index" not in self.file:
            return real
        index = self.file[f"step{i}/index"]
        return real | {"index_a": index[:1], "index_b": index[1:]}

    def loss(self, i, name):
        older = f"step{i}/{OLDER_NAMES.get(name, name)}"
        return self.file[older if older in self.file else f"step{i}/{name}"]


@pytest.fixture(scope="module", params=CASES)
def golden(request):
    folder = request.path.parents[1] / "golden"
    with jax.enable_x64(True):
        yield Golden(folder, request.param)


def test_steps_equal_the_authors(golden):
    file, state = golden.file, golden.start()
    terms = {"supervised": PAIRED, "decomposed": DECOMPOSED}.get(golden.case, UNPAIRED)
    for i in range(sum(name.endswith("/real_A") for name in file.files)):
        state, metrics = golden.step(state, golden.batch(i))
        assert set(metrics) == set(terms)
        for ours, (parts, weight) in terms.items():
            expected = sum(golden.loss(i, part) for part in parts)
            close(weight(golden.method) * metrics[ours], expected, 1e-9, ours)
    trained = interop.to_authors(golden.system, state.variables)
    final = [name for name in file.files if name.startswith("final/") and "u1." not in name]
    assert len(final) == sum(map(len, trained.values()))
    for name in final:
        _, network, key = name.split("/")
        close(trained[network][key], file[name], 1e-6, name)
    if golden.system == "guidance_supervised":
        close(state.memory, nhwc(file["bank/a"]), 1e-9)
    elif golden.method.guidance == "buffer":
        for domain, maps in state.memory["attention"].items():
            close(enlarge(maps, 32, 32), nhwc(file[f"bank/{domain}"]), 1e-9)


@pytest.mark.parametrize("golden", ["buffer"], indirect=True)
def test_maps_live_until_the_next_visit_through_a_checkpoint(golden, tmp_path):
    state, batch = golden.start(), golden.batch(0)
    before = jax.device_get(state.memory["attention"])
    assert all((maps == 1).all() for maps in before.values())
    new, _ = golden.step(state, batch)
    buffer, index = jax.device_get(new.memory["attention"]), {"a": 0, "b": 2}
    for domain, maps in buffer.items():
        others = np.delete(maps, index[domain], 0)
        assert (others == 1).all() and maps[index[domain]].min() == 0
    # The map of the image is that of its translation by the discriminator of the other domain.
    first = jax.jit(partial(first_translation, golden.method))
    _, expected = first(state.variables, 2 * batch["a"])
    np.testing.assert_allclose(buffer["a"][:1], expected, rtol=1e-9)

    store = Checkpoints(tmp_path / "checkpoints")
    store.save(1, new, {})
    store.wait()
    like = jax.eval_shape(golden.start)
    restored, _ = store.restore(like, parallel.create_mesh(jax.devices()[:1]))
    store.close()
    assert_equal(restored.memory, new.memory, 0)
    again, metrics = golden.step(restored, batch)
    expected, expected_metrics = golden.step(new, batch)
    assert_equal((again.variables, metrics), (expected.variables, expected_metrics), 0)


@pytest.mark.parametrize(
    ("name", "network", "parameters"),
    [
        ("posthoc_attn", PostHocDiscriminator(), 2_764_737),
        ("trainable_attn", TrainableDiscriminator(), 3_228_609),
    ],
)
def test_counts(name, network, parameters):
    images = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), images)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == parameters


@pytest.mark.parametrize(
    ("variant", "discriminator", "guidance", "blend"),
    [
        ("", PostHocDiscriminator, "buffer", "rmult"),
        ("pha_rhp", PostHocDiscriminator, "buffer", "rmult"),
        ("pha_alpha", PostHocDiscriminator, "in_iteration", "alpha"),
        ("tam_rhp", TrainableDiscriminator, "buffer", "rmult"),
        ("tam_alpha", TrainableDiscriminator, "in_iteration", "alpha"),
    ],
)
def test_commands_of_the_readme(variant, discriminator, guidance, blend):
    """train_attn.py reads single images in order, neither shuffled nor mirrored, at 286 pixels."""
    config = load(find("guidance"), variant)
    assert not config.data.shuffle and not config.data.flip and config.data.batch_size == 1
    sizes = config.data.load_size, config.data.crop_size, config.data.interpolation
    assert sizes == (286, 256, "bicubic")
    method = methods.create(config)
    assert type(method.networks["discriminator_a"]) is discriminator
    assert (method.guidance, method.blend, method.fusion_stage) == (guidance, blend, "F0")
    weights = method.weights.a, method.weights.b, method.weights.identity
    assert weights == (10, 10, 0) and method.pool_size == 50
    assert method.buffer_sizes == (3_000, 3_000)


@pytest.mark.parametrize(
    ("name", "network", "suffix"),
    [("pha", PostHocDiscriminator(2), ""), ("tam", TrainableDiscriminator(2), "_eval")],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_discriminators_equal_the_authors(
    golden_folder, x64, name, network, suffix, dtype, tolerance
):
    file = np.load(golden_folder / "cyclegan_networks.npz")
    arrays = arrays_under(file, f"{name}/state/", dtype)
    (variables,) = interop.from_authors("guidance", {"D_A": arrays}).values()
    output = jax.jit(network.apply)(variables, nhwc(file["input"]).astype(dtype))
    attention = output.heatmap
    close(output.logits, nhwc(file[f"{name}/output{suffix}"]), tolerance)
    # Their code scales a batch by its common extremes; it is written for batches of one image. The
    # small span of these masks takes digits.
    low, high = attention.min(), attention.max()
    scaled = enlarge((attention - low) / (high - low), 64, 64)
    close(scaled, nhwc(file[f"{name}/attention{suffix}"]), tolerance * high / (high - low))
    each = to_unit_range(attention)
    assert (each.min((1, 2, 3)) == 0).all()
    np.testing.assert_allclose(each.max((1, 2, 3)), 1, rtol=tolerance)


def test_a_constant_map_guides_nowhere():
    assert (to_unit_range(jnp.full((2, 3, 3, 1), 7.0)) == 0).all()


def test_translation_gives_the_map_that_guided_it(golden_folder):
    file = np.load(golden_folder / "guidance_rmult_steps.npz")
    networks = networks_of(file, "guidance", np.float32)
    fields = interop.method_fields("guidance", networks)
    assert fields == {
        "width": 2, "num_residual_blocks": 1, "discriminator": "posthoc_attn",
        "discriminator_width": 2,
    }  # fmt: skip
    method = method_of("in_iteration", **fields, image_size=64)
    variables = interop.from_authors("guidance", networks)
    images = nhwc(file["step0/real_A"])
    inputs = {"image": images}
    output = jax.jit(method.generate)(variables, inputs)
    close(output.heatmap, nhwc(file["step0/attention_A"]), 1e-5)
    generator = method.networks["generator_a2b"]
    expected = generator.apply(variables["generator_a2b"], images * (1 + output.heatmap))
    close(output.images, np.asarray(expected.images), 1e-5)
    assert method.networks_for("b2a") == ("generator_b2a", "discriminator_b")
    del variables["discriminator_a"]
    with pytest.raises(ConfigError, match="discriminator_a needs its weights"):
        method.generate(variables, inputs)
    with pytest.raises(ConfigError, match="direction is 'a2c'"):
        method.generate(variables, inputs, "a2c")


def test_the_discriminator_guides_a_new_image_on_request():
    constant, guided = (method_of(f"tiny,buffer{v}") for v in ("", ",discriminator_guided"))
    variables = jax.jit(constant.create_state)(jax.random.key(0)).variables
    inputs = {"image": batches(1, 2, np.float32)[0]["a"]}
    first, attention = jax.jit(partial(first_translation, constant))(
        variables, 1.5 * inputs["image"]
    )
    alone = {"generator_a2b": variables["generator_a2b"]}
    output = jax.jit(constant.generate)(alone, inputs)
    assert output.heatmap is None and constant.networks_for("a2b") == ("generator_a2b",)
    np.testing.assert_allclose(output.images, first, atol=1e-5)
    output = jax.jit(guided.generate)(variables, inputs)
    np.testing.assert_allclose(output.heatmap, enlarge(attention, 32, 32), atol=1e-4)
    assert guided.networks_for("a2b") == ("generator_a2b", "discriminator_b")
    with pytest.raises(ConfigError, match="discriminator_b needs its weights"):
        guided.generate(alone, inputs)


def test_files_of_the_authors_go_there_and_back(golden):
    back = interop.to_authors(golden.system, interop.from_authors(golden.system, golden.networks))
    for network, arrays in golden.networks.items():
        assert set(arrays) - set(back[network]) <= {"mask_brunch.u1.weight"}
        for key, array in back[network].items():
            np.testing.assert_array_equal(array, arrays[key])


def test_the_buffer_keeps_the_last_of_equal_indices():
    buffer = memory.create_buffer(3, 1, 1, jnp.float32)
    indices, maps = jnp.array([2, 0, 2, 7]), jnp.arange(4.0).reshape(4, 1, 1, 1)
    buffer = memory.remember(buffer, indices, maps, parallel.Examples())
    assert buffer.ravel().tolist() == [1, 1, 2]
    assert memory.recall(buffer, jnp.array([2, 9])).ravel().tolist() == [2, 1]


def test_eight_devices_equal_one(x64):
    fields = {"width": 2, "discriminator_width": 2, "lambda_identity": 0.0, "pool_size": 0}
    method = method_of("tiny,buffer,trainable", **fields)
    data = batches(3)
    data[2]["index_a"][5] = data[2]["index_a"][1]  # twice in one global batch, on two devices
    one, several = (train_on(method, data, n, b) for n, b in ((1, None), (8, "pmap")))
    # Biases before instance normalization have no gradient but rounding, which Adam enlarges.
    assert_equal(one, several, 1e-9)
    assert_equal((one[0].memory, one[1]), (several[0].memory, several[1]))
    maps = np.concatenate([x.ravel() for x in one[0].memory["attention"].values()])
    assert 0 < (maps == 1).mean() < 1


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("guidance", "tam_alpha"),
        ("guidance", "buffer"),
        ("guidance", "decomposed"),
        ("guidance", "f2"),
        ("guidance_supervised", "trainable"),
    ],
)
def test_nothing_local_leaks_into_the_state(name, variant):
    method = method_of(f"tiny,{variant}", name)
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    batch = shapes(batches(1)[0])
    step = parallel.map_step(method.mapped().train_step, parallel.create_mesh(), "shard_map")
    new, _ = jax.eval_shape(step.function, state, batch)
    assert shapes(new) == shapes(state)


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("guidance", variant)
        for variant in (
            "pha_alpha", "in_iteration,mult", "unguided", "alpha,discriminator_guided", "f1",
            "f2,in_iteration", "f3", "f4,bilinear", "reconstructions", "decomposed,mult",
            "in_iteration,bfloat16", "in_iteration,remat",
        )
    ]
    + [("guidance_supervised", v) for v in ("bfloat16", "trainable,discriminator_guided")],
)  # fmt: skip
def test_variants_keep_the_state_as_it_is(name, variant):
    fields = {"num_residual_blocks": 4} if "f3" in variant else {}
    method = method_of(f"tiny,{variant}", name, **fields)
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    batch = {
        key: jax.ShapeDtypeStruct(x.shape, x.dtype) for key, x in batches(1, 2, "f")[0].items()
    }
    new, metrics = jax.eval_shape(method.train_step, state, batch)
    assert shapes(new) == shapes(state)
    assert {"generator/total", "discriminator/total"} <= set(metrics)
    used = {network: state.variables[network] for network in method.networks_for()}
    output = jax.eval_shape(method.generate, used, {"image": batch["a"]})
    assert output.images.shape == (2, 32, 32, 3)
    maps = {name: each.shape for name, each in output.attention.items()}
    expected = "attention" if name == "guidance_supervised" else "guidance"
    alone = {"unguided", "f1", "f3", "f4,bilinear", "reconstructions"}
    assert maps == ({} if variant in alone else {expected: (2, 32, 32, 1)})


def test_the_buffer_needs_numbered_images():
    method = method_of("tiny,buffer")
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    batch = {d: jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32) for d in "ab"}
    with pytest.raises(ConfigError, match="no index_a and index_b"):
        jax.eval_shape(method.train_step, state, batch)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("guidance", {"discriminator": "patch"}, "discriminator is 'patch'"),
        ("guidance", {"blend": "add"}, "blend is 'add'"),
        ("guidance", {"guidance": "none"}, "guidance is 'none'"),
        ("guidance", {"fusion_stage": "F5"}, "fusion_stage is 'F5'"),
        ("guidance", {"upsampler": "nearest"}, "upsampler is 'nearest'"),
        ("guidance", {"upsampler": "learned"}, "'learned' at fusion stage F0"),
        ("guidance", {"guidance": "decomposed", "blend": "alpha"}, "'decomposed' with blend 'al"),
        ("guidance", {"guidance": "decomposed", "fusion_stage": "F1"}, "'rmult' at stage F1"),
        ("guidance", {"test_guidance": "none"}, "test_guidance is 'none'"),
        ("guidance", {"test_statistics": "image"}, "test_statistics is 'image'"),
        ("guidance_supervised", {"test_guidance": "none"}, "test_guidance is 'none'"),
        ("guidance", {"dtype": "float16"}, "dtype is 'float16'"),
        ("guidance", {"image_size": 30}, "image_size is 30"),
        ("guidance", {"image_size": 36, "discriminator": "trainable_attn"}, "multiple of 8"),
        ("guidance", {"fusion_stage": "F1", "blend": "alpha"}, "blend is 'alpha' at fusion stage"),
        ("guidance", {"fusion_stage": "F3", "num_residual_blocks": 3}, "at least 4"),
        ("guidance", {"buffer_size_a": 0}, "buffer_size_a is 0: give at least 1"),
        ("guidance", {"pool_size": -1}, "pool_size is -1"),
        ("guidance_supervised", {"image_size": 96}, "multiple of 128"),
        ("guidance_supervised", {"buffer_size": 0}, "buffer_size is 0"),
        ("guidance_supervised", {"num_downs": 1}, "num_downs is 1"),
        ("guidance_supervised", {"discriminator": "patch"}, "discriminator is 'patch'"),
    ],
)
def test_values_out_of_range_are_refused(name, fields, message):
    with pytest.raises(ConfigError, match=message):
        method_of("", name, **fields)
