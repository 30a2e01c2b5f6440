"""What CycleGAN alone promises: the authors' numbers and names, its pool, and its schedule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_equal, check_steps, networks_of

from ganattn import interop, methods, parallel
from ganattn.config import find, load
from ganattn.errors import ConfigError, ForeignFileError
from ganattn.memory import ImagePool
from ganattn.optimizers import epoch_decay

TERMS = {
    "generator/adversarial": (("g_adv_A", "g_adv_B"), 1),
    "generator/cycle": (("cycle_A", "cycle_B"), 10),
    "generator/identity": (("idt_A", "idt_B"), 5),
    "generator/total": (("g_total",), 1),
    "discriminator/a": (("d_B",), 1),
    "discriminator/b": (("d_A",), 1),
    "discriminator/total": (("d_A", "d_B"), 1),
}


def method_of(variant="", **fields):
    config = load(find("cyclegan"), variant)
    with config.unlocked():
        config.method.update(fields)
    return methods.create(config)


def batches(count, size, side):
    random = np.random.default_rng(0)
    return [{d: random.uniform(-1, 1, (size, side, side, 3)) for d in "ab"} for _ in range(count)]


@pytest.fixture
def steps(golden_folder):
    return np.load(golden_folder / "cyclegan_steps.npz")


def test_steps_equal_the_authors(steps, x64):
    fields = interop.method_fields("cyclegan", networks_of(steps, "cyclegan"))
    method = method_of(**fields, image_size=int(steps["meta"][1]), pool_size=0)
    check_steps(steps, method, "cyclegan", TERMS)


def test_method_fields_come_from_the_arrays(steps):
    assert interop.method_fields("cyclegan", networks_of(steps, "cyclegan")) == {
        "generator": "resnet", "width": 2, "num_residual_blocks": 1, "norm": "instance",
        "dropout": False, "discriminator": "patch", "discriminator_width": 2,
        "discriminator_layers": 3,
    }  # fmt: skip


@pytest.mark.parametrize("variant", ["", "batch_norm", "dropout", "dropout,batch_norm", "pixel"])
def test_names_go_to_the_authors_and_back(variant):
    ours = random_variables(f"tiny,{variant}")
    dropout = "dropout" in variant
    theirs = interop.to_authors("cyclegan", ours, dropout=dropout)
    second = "model.10.conv_block.6.weight" if dropout else "model.10.conv_block.5.weight"
    assert theirs["G_A"][second].shape == (16, 16, 3, 3)
    assert_equal(interop.from_authors("cyclegan", theirs), ours, 0)
    fields = interop.method_fields("cyclegan", theirs)
    assert fields["dropout"] == dropout
    assert fields["norm"] == ("batch" if "batch_norm" in variant else "instance")
    assert fields["discriminator"] == ("pixel" if variant == "pixel" else "patch")


def random_variables(variant):
    """Integers, which counters can be, too."""
    state = jax.eval_shape(method_of(variant).create_state, jax.random.key(0))
    random = np.random.default_rng(0)
    return jax.tree.map(lambda x: random.integers(0, 99, x.shape).astype(x.dtype), state.variables)


def test_their_discriminator_a_is_of_domain_b(steps):
    arrays = networks_of(steps, "cyclegan")["D_A"]
    assert list(interop.from_authors("cyclegan", {"D_A": arrays})) == ["discriminator_b"]


def test_averages_of_instance_normalization_are_dropped(steps):
    arrays = networks_of(steps, "cyclegan")["G_A"]
    averages = {"running_mean": np.zeros(2), "running_var": np.ones(2), "num_batches_tracked": 7}
    old = {f"module.{key}": array for key, array in arrays.items()}
    for norm in ("model.2", "model.10.conv_block.2", "model.10.conv_block.6", "model.15"):
        old |= {f"module.{norm}.{key}": np.asarray(value) for key, value in averages.items()}
    expected = interop.from_authors("cyclegan", {"G_A": arrays})
    assert_equal(interop.from_authors("cyclegan", {"G_A": old}), expected, 0)


def test_counters_may_be_missing():
    theirs = interop.to_authors("cyclegan", random_variables("tiny,batch_norm"))
    old = {k: v for k, v in theirs["G_A"].items() if not k.endswith("num_batches_tracked")}
    assert len(old) < len(theirs["G_A"])
    back = interop.from_authors("cyclegan", {"G_A": old})["generator_a2b"]
    assert back["batch_stats"]["stem_norm"]["batches"] == 0


def test_images_that_are_not_rgb_are_refused(steps):
    arrays = networks_of(steps, "cyclegan")
    arrays["G_A"]["model.1.weight"] = arrays["G_A"]["model.1.weight"][:, :1]
    with pytest.raises(ForeignFileError, match="'G_A' takes 1 channels instead of 3"):
        interop.method_fields("cyclegan", arrays)


def test_pool_fills_then_returns_earlier_images():
    pool = ImagePool.create(3, (1, 1, 1), jnp.float32)
    query = jax.jit(lambda pool, images, key: pool.query(images, key, parallel.Examples()))
    stored, swaps = [], 0
    for step in range(20):
        images = np.arange(4.0, dtype="f").reshape(4, 1, 1, 1) + 4 * step + 1
        pool, outputs = query(pool, images, jax.random.key(step))
        for new, out in zip(images.ravel(), np.ravel(outputs), strict=True):
            if len(stored) < 3:
                stored.append(new)
                assert out == new
            elif out != new:
                stored[stored.index(out)] = new
                swaps += 1
        assert list(np.ravel(pool.images)) == stored and pool.filled == len(stored)
    assert 0.3 < swaps / 77 < 0.7


@pytest.mark.parametrize("variant", ["", "dropout", "no_identity,no_pool", "remat,dropout"])
def test_nothing_local_leaks_into_the_state(variant):
    method = method_of(f"tiny,{variant}")
    step = parallel.map_step(method.mapped().train_step, parallel.create_mesh(), "shard_map")
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    batch = dict.fromkeys("ab", jax.ShapeDtypeStruct((8, 32, 32, 3), jnp.float32))
    new, _ = jax.eval_shape(step.function, state, batch)
    assert jax.tree.map(_kind, new) == jax.tree.map(_kind, state)


def _kind(leaf):
    return leaf.shape, leaf.dtype


@pytest.mark.parametrize("variant", ["batch_norm", "pixel", "bfloat16", "no_identity,no_pool"])
def test_variants_keep_the_kind_of_every_leaf(variant):
    method = method_of(f"tiny,{variant}")
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    batch = dict.fromkeys("ab", jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32))
    new, _ = jax.eval_shape(method.train_step, state, batch)
    assert jax.tree.map(_kind, new) == jax.tree.map(_kind, state)
    assert (new.memory == {}) == ("no_pool" in variant)


@pytest.mark.parametrize(
    ("scheduler_step", "shares"),
    [
        ("end", {1: 101, 100: 101, 101: 100, 150: 51, 199: 2, 200: 1}),
        ("start", {1: 101, 99: 101, 100: 100, 101: 99, 150: 50, 199: 1, 200: 0}),
    ],
)
@pytest.mark.parametrize("epoch_steps", [1, 7])
def test_rates_of_epochs_equal_the_authors(scheduler_step, shares, epoch_steps):
    schedule = epoch_decay(2e-4, 100 * epoch_steps, 200 * epoch_steps, epoch_steps, scheduler_step)
    for epoch, share in shares.items():
        for count in ((epoch - 1) * epoch_steps, epoch * epoch_steps - 1):
            assert float(schedule(count)) == pytest.approx(2e-4 * share / 101, abs=1e-10)


def test_a_negative_start_never_decays():
    assert epoch_decay(2e-4, -1, 10, 2)(9) == 2e-4


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_size", 30), ("image_size", 16), ("norm", "layer"), ("discriminator", "global"),
        ("adversarial", "hinge"), ("test_statistics", "none"), ("dtype", "float16"),
        ("pool_size", -1), ("discriminator_layers", 0),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"config.method.{field} is"):
        method_of(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"), [("scheduler_step", "middle"), ("epoch_steps", 0), ("total_steps", 0)]
)
def test_schedules_out_of_range_are_refused(field, value):
    config = load(find("cyclegan"), "tiny")
    with config.unlocked():
        config.optimizer[field] = value
    with pytest.raises(ConfigError, match=f"config.optimizer.{field} is"):
        methods.create(config)
