"""Checkpoints: a restore is exact, bit for bit, or falls back to an older one, or is refused."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import assert_equal

from ganattn import parallel
from ganattn.errors import CheckpointError
from ganattn.runs.checkpoints import Checkpoints, restore_variables
from ganattn.state import TrainState

# Readers of a damaged file report to an event loop that orbax has closed by then.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
CONFIG = {"method": {"name": "toy", "layers": [7, 5]}, "seed": 3}


def create(seed, width=6, dtype=jnp.float32, networks=("generator",)):
    """A state with every kind of leaf: typed key, bfloat16, uint8, scalar, a name with a slash."""
    rng = jax.random.wrap_key_data(seed)
    variables = {
        name: {
            "params": {"Conv_0": {"kernel": jax.random.normal(rng, (3, 40, width), dtype)}},
            "rho": {"AdaLIN_0": {"rho": jnp.full((width,), 0.25)}},
            "spectral": {"Conv_0/kernel": jnp.ones((1, width), jnp.bfloat16)},
        }
        for name in networks
    }
    params = {name: {"params": v["params"]} for name, v in variables.items()}
    opt_state = {"generator": optax.adam(1e-3).init(params)}
    memory = {"pool": jnp.arange(12, dtype=jnp.uint8).reshape(2, 6)}
    return TrainState(jnp.int32(4), rng, variables, opt_state, memory)


def seed(number):
    return np.array([0, number], np.uint32)


def like(**options):
    return jax.eval_shape(lambda raw: create(raw, **options), seed(0))


def one_device():
    return parallel.create_mesh(jax.devices()[:1])


def fresh(number, mesh=None, **options):
    return parallel.replicate(lambda raw: create(raw, **options), mesh or one_device())(
        seed(number)
    )


def as_bytes(state):
    raw = jax.tree.map(
        lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x,
        state,
    )
    return [(str(x.dtype), x.shape, np.asarray(x).tobytes()) for x in jax.tree.leaves(raw)]


def snapshot(directory):
    """Every file below a directory with the hash of its content."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def saved(tmp_path):
    """A directory with steps 1, 2 and 3, made from seeds 1, 2 and 3."""
    store = Checkpoints(tmp_path / "checkpoints")
    for step in (1, 2, 3):
        store.save(step, fresh(step), CONFIG)
    store.close()
    return tmp_path / "checkpoints"


def test_round_trip_is_bit_equal(saved):
    store = Checkpoints(saved)
    state, meta = store.restore(like(), one_device())
    assert as_bytes(state) == as_bytes(fresh(3))
    assert jax.tree.structure(state) == jax.tree.structure(fresh(3))
    assert state.rng.dtype == fresh(3).rng.dtype
    assert (meta["step"], meta["config"]) == (3, CONFIG)
    assert store.messages == []


def test_checkpoints_of_earlier_versions_restore(golden_folder):
    """The files were written from seed 1 before the manager and its checksums were split.

    The compiler's level decides how the drawn numbers round.
    """
    store = Checkpoints(golden_folder / "checkpoint")
    before = snapshot(store.directory)
    state, meta = store.restore(like(), one_device())
    assert np.array_equal(jax.random.key_data(state.rng), jax.random.key_data(fresh(1).rng))
    assert_equal(state.replace(rng=None), fresh(1).replace(rng=None), 1e-6)
    assert (meta["step"], meta["config"]) == (1, CONFIG)
    assert as_bytes(restore_variables(store.directory)[0]) == as_bytes(state.variables)
    assert (store.messages, snapshot(store.directory)) == ([], before)


def test_only_the_newest_are_kept(tmp_path):
    store = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3, 4):
        store.save(step, fresh(step), CONFIG)
    store.close()
    assert store.steps() == [3, 4]
    assert store.latest() == 4
    assert list((tmp_path / "trash").iterdir()) == []  # through it they went, then it was emptied


def test_leftovers_of_a_killed_run_are_cleared(tmp_path):
    leftovers = [tmp_path / "9.orbax-checkpoint-tmp", tmp_path / "trash" / "0"]
    for leftover in leftovers:
        leftover.mkdir(parents=True)
    store = Checkpoints(tmp_path)
    assert store.steps() == []
    store.save(1, fresh(1), CONFIG)
    store.close()
    assert [leftover.exists() for leftover in leftovers] == [False, False]


def test_saved_values_survive_donation(tmp_path):
    store = Checkpoints(tmp_path)
    state = fresh(1)
    expected = as_bytes(state)
    spoil = jax.jit(
        lambda s: s.replace(variables=jax.tree.map(jnp.add, s.variables, s.variables)),
        donate_argnums=0,
    )
    store.save(1, state, CONFIG)
    spoilt = spoil(state)
    store.close()
    restored, _ = store.restore(like(), one_device())
    assert as_bytes(restored) == expected != as_bytes(spoilt)


def test_restored_buffers_may_be_donated(saved):
    store = Checkpoints(saved)
    add = jax.jit(lambda s: s.replace(step=s.step + 1), donate_argnums=0)
    state, _ = store.restore(like(), one_device())
    again = add(state)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.variables))
    assert as_bytes(again.variables) == as_bytes(fresh(3).variables)


def test_save_refuses_a_step_that_is_not_new(saved):
    store = Checkpoints(saved)
    with pytest.raises(ValueError, match="step 3 is not beyond the newest checkpoint, 3"):
        store.save(3, fresh(1), CONFIG)
    store.close()


def test_relative_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Checkpoints("run/checkpoints")
    store.save(1, fresh(1), CONFIG)
    store.close()
    monkeypatch.chdir("/")
    assert store.latest() == 1
    assert restore_variables(tmp_path / "run/checkpoints")[1]["step"] == 1


def array_file(step):
    return max((step / "state").rglob("d/*"), key=lambda path: path.stat().st_size)


def flip_bit(path, position=0.5):
    content = bytearray(path.read_bytes())
    content[int(len(content) * position)] ^= 4
    path.write_bytes(content)


def change_config(step):
    path = step / "meta" / "metadata"
    path.write_text(path.read_text().replace('"toy"', '"boy"'))


def remove_checksum(step):
    path = step / "meta" / "metadata"
    meta = json.loads(path.read_text())
    del meta["sha256"]
    path.write_text(json.dumps(meta))


DAMAGE = {
    "bit of an array": lambda step: flip_bit(array_file(step)),
    "early bit of an array": lambda step: flip_bit(array_file(step), 0.1),
    "array truncated": lambda step: os.truncate(array_file(step), 100),
    "array emptied": lambda step: os.truncate(array_file(step), 0),
    "array deleted": lambda step: array_file(step).unlink(),
    "all arrays deleted": lambda step: shutil.rmtree(step / "state"),
    "manifest truncated": lambda step: os.truncate(step / "state" / "manifest.ocdbt", 10),
    "tree truncated": lambda step: os.truncate(step / "state" / "_METADATA", 50),
    "meta deleted": lambda step: shutil.rmtree(step / "meta"),
    "meta truncated": lambda step: os.truncate(step / "meta" / "metadata", 60),
    "file that is never read deleted": lambda step: (step / "_CHECKPOINT_METADATA").unlink(),
    "file that is never read truncated": lambda step: os.truncate(step / "state/_sharding", 9),
    "config changed": change_config,
    "checksum removed": remove_checksum,
    "another step's files": lambda step: shutil.copytree(
        step.with_name("1"), step, dirs_exist_ok=True
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_falls_back_to_the_newest_intact_one(saved, damage, caplog):
    damage(saved / "3")
    before = snapshot(saved)
    variables, meta = restore_variables(saved)
    assert meta["step"] == 2
    assert as_bytes(variables) == as_bytes(fresh(2).variables)
    assert snapshot(saved) == before

    store = Checkpoints(saved)
    state, meta = store.restore(like(), one_device())
    assert meta["step"] == 2
    assert as_bytes(state) == as_bytes(fresh(2))
    assert len(store.messages) == 1
    assert f"{saved / '3'} is damaged" in store.messages[0]
    assert "\n" not in store.messages[0]
    assert "using step 2" in caplog.text
    assert (store.steps(), (saved / "damaged" / "3").is_dir()) == ([1, 2], True)
    store.save(3, state, CONFIG)
    store.close()
    assert store.latest() == 3


def test_without_the_list_of_files_the_checksums_decide(saved):
    (saved / "3" / "files.json").unlink()
    assert restore_variables(saved)[1]["step"] == 3
    DAMAGE["bit of an array"](saved / "3")
    assert restore_variables(saved)[1]["step"] == 2


def test_two_damaged_ones_are_skipped(saved):
    DAMAGE["bit of an array"](saved / "3")
    DAMAGE["array truncated"](saved / "2")
    store = Checkpoints(saved)
    assert as_bytes(store.restore(like(), one_device())[0]) == as_bytes(fresh(1))
    assert len(store.messages) == 2


def test_none_intact_says_what_was_tried_and_changes_nothing(saved):
    for step in ("1", "2", "3"):
        DAMAGE["bit of an array"](saved / step)
    before = snapshot(saved)
    with pytest.raises(CheckpointError, match="no intact checkpoint") as error:
        Checkpoints(saved).restore(like(), one_device())
    assert all(str(saved / step) in str(error.value) for step in ("1", "2", "3"))
    assert "\n" not in str(error.value)
    assert snapshot(saved) == before


@pytest.mark.parametrize(
    "read", [restore_variables, lambda d: Checkpoints(d).restore(like(), None)]
)
def test_no_checkpoint_at_all(tmp_path, read):
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        read(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


OTHERS = {
    "shape": (
        {"width": 8},
        "variables/generator/params/Conv_0/kernel has type float32(3, 40, 6) and not "
        "float32(3, 40, 8)",
    ),
    "dtype": (
        {"dtype": jnp.bfloat16},
        "variables/generator/params/Conv_0/kernel has type float32(3, 40, 6) and not "
        "bfloat16(3, 40, 6)",
    ),
    "missing": (
        {"networks": ("generator", "discriminator")},
        "variables/discriminator/params/Conv_0/kernel is missing",
    ),
    "extra": ({"networks": ()}, "variables/generator/rho/AdaLIN_0/rho is unknown"),
}


@pytest.mark.parametrize(("options", "phrase"), OTHERS.values(), ids=OTHERS)
def test_another_architecture_is_named_and_nothing_is_touched(saved, options, phrase):
    before = snapshot(saved)
    store = Checkpoints(saved)
    with pytest.raises(CheckpointError, match="another architecture") as error:
        store.restore(like(**options), one_device())
    store.close()
    assert phrase in str(error.value)
    assert str(error.value).count("; ") <= 5
    assert "\n" not in str(error.value)
    assert snapshot(saved) == before


def test_many_differences_are_counted(saved):
    with pytest.raises(CheckpointError, match=r"; and 5 more\. Use the config"):
        Checkpoints(saved).restore(
            like(networks=("generator", "discriminator"), width=7), one_device()
        )


def test_restore_variables_of_a_given_step(saved):
    variables, meta = restore_variables(saved, step=1)
    assert (meta["step"], meta["config"]) == (1, CONFIG)
    assert as_bytes(variables) == as_bytes(fresh(1).variables)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(variables))
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 7 .* there are 1, 2, 3"):
        restore_variables(saved, step=7)
    DAMAGE["bit of an array"](saved / "1")
    with pytest.raises(CheckpointError, match="no intact checkpoint"):
        restore_variables(saved, step=1)


ON_EIGHT_DEVICES = """
import sys
sys.path.insert(0, sys.argv[1])
import jax
from test_checkpoints import CONFIG, Checkpoints, as_bytes, fresh, like, parallel
mesh = parallel.create_mesh()
assert mesh.size == 8
store = Checkpoints(sys.argv[2])
state, _ = store.restore(like(), mesh)
assert as_bytes(state) == as_bytes(fresh(1))
assert all(len(leaf.sharding.device_set) == 8 for leaf in jax.tree.leaves(state))
store.save(2, fresh(2, mesh), CONFIG)
store.close()
"""


def test_one_device_to_eight_and_back(tmp_path):
    store = Checkpoints(tmp_path)
    store.save(1, fresh(1), CONFIG)
    store.close()
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    here = Path(__file__).parent
    subprocess.run(
        [sys.executable, "-c", ON_EIGHT_DEVICES, here, tmp_path],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": here.parent},
        check=True,
        timeout=120,
    )
    state, meta = store.restore(like(), one_device())
    assert meta["step"] == 2
    assert as_bytes(state) == as_bytes(fresh(2))
