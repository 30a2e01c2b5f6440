"""Evaluation inside the loop, and the best checkpoint: chosen, kept, intact, restored."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import SIZE, Batches, Toy, configure

from ganattn.data import batches as data_batches
from ganattn.data.examples import numbered
from ganattn.errors import CheckpointError, UserError
from ganattn.evaluation import metrics as registry
from ganattn.figures import to_uint8
from ganattn.runs import best
from ganattn.runs.checkpoints import Checkpoints, restore_variables
from ganattn.runs.results import read_results, summary
from ganattn.state import TrainState
from ganattn.training import hooks, loop
from ganattn.training.evaluation import Evaluate, create_evaluation
from ganattn.training.loop import train
from ganattn.training.saving import SaveCheckpoints


class Pairs(Batches):
    """Batches with as many test pictures as fill one."""

    def __init__(self, paired=True):
        super().__init__(8)
        self.paired = paired
        batch = self.test_batch(8)
        self.tests = data_batches.Tests(
            {d: numbered(8) for d in "ab"}, lambda d, i: {d: batch[d][i]}
        )


def evaluated(total=6, every=2, better="lower", name="dial", keep=1, **train):
    config = configure(total, keep_checkpoints=keep, **train)
    with config.unlocked():
        config.evaluation.update(every=every, best=name, better=better)
    return config


def dial(values):
    """An evaluation whose value depends on the step in the state."""

    def evaluate(variables, step, grids):
        at = int(variables["generator"]["params"]["step"])
        return [
            {"step": step, "direction": d, "metric": "dial", "value": values[at] + shift}
            for d, shift in (("a2b", 0.5), ("b2a", -0.5))
        ]

    return evaluate


def state(step):
    return TrainState(
        jnp.int32(step),
        jax.random.key(0),
        {"generator": {"params": {"step": jnp.asarray(float(step))}}},
        {},
    )


def evaluate(workdir, values, steps, start=0, **options):
    """What the loop does at these steps, without the training: (kept steps, the best)."""
    config = evaluated(**options)
    store = Checkpoints(workdir / "checkpoints", 1)
    hook = Evaluate(config, workdir, store, dial(values), start)
    saver = SaveCheckpoints(store, config, 2)
    for step in steps:
        hook(step, state(step), {})
        if saver.due(step):
            saver.save(step, state(step))
    saver.save(steps[-1], state(steps[-1]))
    hook.close()
    store.close()
    return store.steps(), store.best()


def test_the_best_outlives_the_newest_and_a_resume(tmp_path):
    values = {2: 3.0, 4: 1.0, 6: 2.0, 8: 1.5, 10: 0.5}
    assert evaluate(tmp_path, values, (2, 4, 6)) == ([6], 4)
    variables, meta = restore_variables(tmp_path / "checkpoints", "best")
    assert meta["step"] == 4 and variables["generator"]["params"]["step"] == 4
    assert evaluate(tmp_path, values, (8,), start=6) == ([8], 4)
    assert evaluate(tmp_path, values, (10,), start=8) == ([10], 10)
    assert [entry.name for entry in (tmp_path / "checkpoints" / "best").iterdir()] == ["10"]
    assert restore_variables(tmp_path / "checkpoints", "best")[1]["step"] == 10
    assert [r["value"] for r in read_results(tmp_path)][:4] == [3.5, 2.5, 1.5, 0.5]


def test_higher_values_and_one_direction(tmp_path):
    values = {2: 3.0, 4: np.nan, 6: 2.0}
    options = {"better": "higher", "name": "dial/b2a"}
    assert evaluate(tmp_path, values, (2, 4, 6), **options) == ([6], 2)
    lines = (tmp_path / "evaluation.jsonl").read_text().splitlines()
    assert [json.loads(line)["value"] for line in lines] == [3.5, 2.5, None, None, 2.5, 1.5]


def test_the_last_step_may_be_the_best(tmp_path):
    assert evaluate(tmp_path, {2: 3.0, 4: 2.0, 5: 1.0}, (2, 4, 5), total=5) == ([5], 5)


def test_a_metric_without_results_keeps_nothing(tmp_path, caplog):
    assert evaluate(tmp_path, {2: 1.0}, (2,), name="fid") == ([2], None)
    assert "no finite fid at step 2" in caplog.text and "dial/a2b, dial/b2a" in caplog.text


def test_killed_before_the_best_was_set_apart(tmp_path):
    evaluate(tmp_path, {2: 1.0, 4: 3.0}, (2, 4))
    shutil.rmtree(tmp_path / "checkpoints" / "best")  # so 4 is the best of what is left
    assert evaluate(tmp_path, {6: 2.9}, (6,), start=4) == ([6], 6)
    shutil.rmtree(tmp_path / "checkpoints" / "best")
    assert evaluate(tmp_path, {8: 5.0}, (8,), start=6) == ([8], 6)


@pytest.mark.parametrize("links", [True, False])
def test_set_apart_shares_files_where_it_can(tmp_path, monkeypatch, links):
    source = tmp_path / "7" / "state"
    source.mkdir(parents=True)
    (source / "numbers").write_text("whole")
    (tmp_path / "best" / "3").mkdir(parents=True)
    (tmp_path / "best" / ".7.partial").mkdir()
    if not links:
        monkeypatch.setattr(best.os, "link", lambda *_: (_ for _ in ()).throw(OSError))
    for _ in range(2):
        best.preserve(tmp_path / "7", tmp_path / "best")
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["7"]
    kept = tmp_path / "best" / "7" / "state" / "numbers"
    assert kept.samefile(source / "numbers") == links
    shutil.rmtree(tmp_path / "7")
    best.preserve(tmp_path / "7", tmp_path / "best")
    assert kept.read_text() == "whole"


def test_no_best_checkpoint_is_one_line(tmp_path):
    with pytest.raises(CheckpointError, match=r"no best checkpoint .*config.evaluation.best"):
        restore_variables(tmp_path, "best")


BAD = {
    "metric": ({"metrics": ("fids",)}, "evaluation.metrics has no metric 'fids': use some of fid"),
    "truth": ({"metrics": ("truth",)}, "truth needs the true images: evaluate pairs"),
    "pairs": ({"metrics": ("psnr",)}, "psnr needs the true images"),
    "masks": ({"metrics": ("attention_iou",)}, "attention_iou needs masks"),
    "features": ({"metrics": ("fid",), "features": "no.pth"}, "no.pth"),
    "convention": ({"metrics": ("fid",), "convention": "tff"}, "'tff': use one of pytorch-fid"),
    "old name": ({"measures": ("fids",)}, "no metric 'fids'"),
    "better": ({"better": "larger"}, "'larger': use one of lower, higher"),
    "every": ({"every": -1}, "every is -1: give at least 0"),
    "between": (
        {"every": 3, "best": "l1"},
        "3, not a multiple of config.train.checkpoint_every, 2",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_fields_are_refused_before_anything_is_written(tmp_path, case):
    fields, message = BAD[case]
    config = configure(4)
    with config.unlocked():
        config.evaluation.update({"every": 2, **fields})
    workdir = tmp_path / "run"
    with pytest.raises(UserError, match=message):
        train(config, workdir, method=Toy.from_config(config), batches=Pairs(paired=False))
    assert not workdir.exists()


def test_a_config_without_the_fields_evaluates_nothing():
    config = configure(4)
    with config.unlocked():
        del config.evaluation
    assert create_evaluation(config, None, None) is None


def test_training_keeps_its_best(tmp_path, monkeypatch):
    monkeypatch.setattr(hooks, "create_writer", lambda workdir: None)
    values = iter([2.0, 1.0, 3.0])

    def evaluate(variables, step, grids):
        return [{"step": step, "metric": "dial", "value": next(values)}]

    monkeypatch.setattr(loop, "create_evaluation", lambda *_: evaluate)
    config = evaluated(total=5, checkpoint_every=2)
    train(config, tmp_path, method=Toy.from_config(config), batches=Batches(8))
    assert [(r["step"], r["value"]) for r in read_results(tmp_path)] == [(2, 2), (4, 1), (5, 3)]
    store = Checkpoints(tmp_path / "checkpoints")
    assert (store.steps(), store.best()) == ([5], 4)
    newest, chosen = (restore_variables(store.directory, step)[0] for step in (5, "best"))
    kernels = [v["generator"]["params"]["Conv_0"]["kernel"] for v in (newest, chosen)]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-3


def test_only_the_first_process_evaluates(tmp_path, monkeypatch):
    monkeypatch.setattr(hooks, "create_writer", lambda workdir: None)
    store, config = Checkpoints(tmp_path / "checkpoints"), evaluated()
    for process, there in ((0, True), (1, False)):
        monkeypatch.setattr(hooks.jax, "process_index", lambda process=process: process)
        workdir = tmp_path / str(process)
        workdir.mkdir()
        run = hooks.standard(
            config, workdir, store, method=None, batches=Batches(8), step=0, evaluation=dial({})
        )
        assert any(isinstance(hook, Evaluate) for hook in run._watchers) == there
        assert (workdir / "evaluation.jsonl").exists() == there
        run.close()


def test_metrics_of_the_command_line_are_evaluated():
    config, batches = configure(4), Pairs()
    with config.unlocked():
        config.evaluation.update(every=2, metrics=("psnr",))
    method = Toy.from_config(config)
    variables = method.create_state(jax.random.key(0)).variables
    results = create_evaluation(config, method, batches)(variables, 4, None)
    assert [(r["step"], r["metric"]) for r in results] == [(4, "psnr")] * 2
    batch = batches.test_batch(8)
    images = to_uint8(method.generate(variables, {"image": batch["a"]}).images)
    squares = np.square(images.astype(float) - to_uint8(batch["b"])).mean((1, 2, 3))
    expected = np.mean(10 * np.log10(255**2 / squares))
    assert results[0]["direction"] == "a2b"
    assert results[0]["value"] == pytest.approx(expected, rel=1e-3)  # a level may tip


def test_without_metrics_real_data_is_evaluated_by_kid(monkeypatch):
    config, batches, created = configure(4), Pairs(paired=False), []
    with config.unlocked():
        config.evaluation.every = 2
    monkeypatch.setattr(registry, "create", lambda names, *_: created.append(names))
    assert create_evaluation(config, Toy.from_config(config), batches) is not None
    assert created == [("kid",)] * 2  # by random Inception, which needs no file


def test_an_old_config_names_its_metrics_measures():
    config = configure(4)
    with config.unlocked():
        config.evaluation.every = 2
        del config.evaluation.metrics
        config.evaluation.measures = ("psnr",)
    method, batches = Toy.from_config(config), Pairs()
    variables = method.create_state(jax.random.key(0)).variables
    results = create_evaluation(config, method, batches)(variables, 2, None)
    assert {r["metric"] for r in results} == {"psnr"}


def known(images):
    """Batches with the true outputs and masks of their test images."""
    mask = np.zeros((8, SIZE, SIZE), bool)
    mask[:, :2] = True
    batches = Batches(8)
    batches.paired = False
    batches.truth = {
        "a": images["a"], "a_truth": images["b"], "a_mask": mask,
        "b": images["b"], "b_truth": images["a"], "b_mask": mask,
    }  # fmt: skip
    batches.tests = data_batches.Tests(
        {d: numbered(8) for d in "ab"}, lambda d, i: {d: images[d][i]}
    )
    return batches, mask


def test_the_truth_is_the_default_where_the_data_knows_it(tmp_path, monkeypatch):
    monkeypatch.setattr(hooks, "create_writer", lambda workdir: None)
    config = configure(4)
    with config.unlocked():
        config.evaluation.every = 2
    images = Batches(8)(99)
    method, (batches, mask) = Toy.from_config(config), known(images)
    train(config, tmp_path, method=method, batches=batches)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["step"] == 4 and list(result["directions"]) == ["a2b", "b2a"]
    variables, _ = restore_variables(tmp_path / "checkpoints")
    for direction, source, target in (("a2b", "a", "b"), ("b2a", "b", "a")):
        output = method.generate(variables, {"image": images[source]}, direction)
        generated = np.asarray(output.images)
        inside = np.abs(generated - images[target])[mask].mean()
        before = np.abs(images[source] - images[target])[mask].mean()
        values = result["directions"][direction]
        assert values["mask_l1_ratio"] == pytest.approx(inside / before, rel=1e-4)
        outside = np.abs(generated - images[source])[~mask].mean()
        assert values["background_l1"] == pytest.approx(outside, rel=1e-4)
        assert (tmp_path / f"result_{direction}.png").is_file()
    both = [values["mask_l1"] for values in result["directions"].values()]
    assert result["mask_l1"] == pytest.approx(np.mean(both))
    lines = read_results(tmp_path)
    assert list(dict.fromkeys(line["step"] for line in lines)) == [2, 4]
    last = {(r["metric"], r["direction"]): r["value"] for r in lines if r["step"] == 4}
    assert last["mask_l1", "b2a"] == pytest.approx(result["directions"]["b2a"]["mask_l1"])
    assert not (tmp_path / "scores.jsonl").exists()


def test_moving_averages_are_evaluated_and_drawn(tmp_path):
    seen = []

    def evaluate(variables, step, grids):
        seen.append((float(variables["generator"]["params"]["step"]), grids))
        return []

    store = Checkpoints(tmp_path / "checkpoints", 1)
    hook = Evaluate(evaluated(total=2, name=""), tmp_path, store, evaluate, 0)
    averages = {"generator": {"params": {"step": jnp.asarray(0.25)}}}
    hook(2, state(2).replace(ema=averages), {})
    hook.close()
    store.close()
    assert seen == [(0.25, tmp_path)]


def test_a_summary_is_the_mean_over_directions():
    lines = [
        {"metric": "ssim", "convention": c, "direction": d, "value": v}
        for c, d, v in (
            ("uniform", "a2b", 1.0), ("gaussian", "a2b", 2.0),
            ("uniform", "b2a", 2.0), ("gaussian", "b2a", np.inf),
        )
    ]  # fmt: skip
    assert summary(7, lines) == {
        "step": 7,
        "ssim": 1.5,
        "ssim (gaussian)": None,
        "directions": {
            "a2b": {"ssim": 1.0, "ssim (gaussian)": 2.0},
            "b2a": {"ssim": 2.0, "ssim (gaussian)": None},
        },
    }
