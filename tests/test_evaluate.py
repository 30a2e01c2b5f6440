"""`ganattn evaluate` over runs and folders: its results against ones computed by hand."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from ganattn import data, methods
from ganattn.config import find, load
from ganattn.data import procedural
from ganattn.data.images import to_float
from ganattn.errors import ConfigError, DataError
from ganattn.evaluation import metrics as registry
from ganattn.evaluation.attention import ClassAttention, heatmap_iou
from ganattn.evaluation.distances import frechet_distance, kid
from ganattn.evaluation.evaluate import describe, evaluate_run
from ganattn.evaluation.images import psnr
from ganattn.evaluation.labels import VOID, label_set
from ganattn.evaluation.settings import Settings
from ganattn.evaluation.snapshots import Snapshot
from ganattn.evaluation.statistics import collect
from ganattn.inference.authors import read_authors
from ganattn.inference.model import Model
from ganattn.inference.translator import Translator

FILE = Path(__file__).parent / "golden" / "torch" / "ugatit_tiny.pt"
COUNT = 10  # test pictures


def thumbnails(pictures):
    """Features that need no network: 4 x 4 pixels."""
    step = pictures.shape[1] // 4
    return pictures[:, ::step, ::step].reshape(len(pictures), -1) / 255


def few_pictures():
    """Procedural test pictures of 32 pixels with their truth, as `data.create` gives them."""
    config, variables = read_authors(FILE, "ugatit")
    with config.unlocked():
        config.data.update(source="procedural", load_size=32, crop_size=32)
    truth = procedural.test_set(COUNT, 32, seed=0)
    arrays = {d: truth[d] for d in "ab"} | {f"test_{d}": truth[d] for d in "ab"}
    floats = {k: x if x.dtype == bool else to_float(x) for k, x in truth.items()}
    batches = data.create(config, arrays=arrays)
    batches.truth = floats
    return config, variables, batches


@pytest.fixture(scope="module")
def translating():
    """A run of U-GAT-IT."""
    config, variables, batches = few_pictures()
    return Snapshot(Model(methods.create(config), variables, config, 3), batches)


def drawn(method, name="generator"):
    """Variables of a network; initializing them would compile for seconds."""
    shapes = jax.eval_shape(lambda: method.initialize(name, jax.random.key(0)))
    rng = np.random.default_rng(0)

    def draw(x):
        values = rng.normal(0, 0.1, x.shape) if x.ndim > 1 else rng.uniform(0.3, 1, x.shape)
        return values.astype(x.dtype)

    return jax.tree.map(draw, shapes)


@pytest.fixture(scope="module")
def synthesizing():
    """A run of DAGAN."""
    config = load(find("dagan"), "tiny")
    with config.unlocked():
        config.method.width = 2
    method = methods.create(config)
    scenes = procedural.scenes(COUNT, 32, 32, 0)
    arrays = scenes | {f"test_{name}": array for name, array in scenes.items()}
    batches = data.create(config, arrays=arrays)
    return Snapshot(Model(method, {"generator": drawn(method)}, config, 3), batches)


@pytest.fixture(scope="module")
def evaluated(translating, tmp_path_factory):
    """(results by metric and direction, folder of the made pictures)."""
    folder = tmp_path_factory.mktemp("made")
    metrics = ["fid", "kid", "mean_fid", "mean_kid", "psnr", "ssim", "attention_iou"]
    results = evaluate_run(translating, metrics, Settings(features=thumbnails), output=folder)
    return {(line["metric"], line["direction"]): line for line in results}, folder


def test_a_run_is_scored_as_its_written_pictures_are(evaluated, translating):
    results, folder = evaluated
    truth = translating.batches.truth
    for direction, source, target in (("a2b", "a", "b"), ("b2a", "b", "a")):
        fakes = collect(folder / direction, thumbnails)
        assert fakes.count == COUNT
        to_uint8 = [np.rint(127.5 * (truth[d] + 1)).astype(np.uint8) for d in (target, source)]
        reals, sources = (collect(pictures, thumbnails) for pictures in to_uint8)
        found = {m: line for (m, d), line in results.items() if d == direction}
        distance = frechet_distance(fakes, reals)
        assert found["fid"]["value"] == pytest.approx(distance)
        both = (distance + frechet_distance(fakes, sources)) / 2
        assert found["mean_fid"]["value"] == pytest.approx(both)
        expected = kid(fakes.features, reals.features, subset_size=COUNT // 2)
        assert (found["kid"]["value"], found["kid"]["std"]) == pytest.approx(expected)
        assert found["kid"]["estimator"].startswith("100 subsets of 5")
        assert found["kid"]["samples"] == [COUNT, COUNT]
        assert found["fid"]["step"] == 3 and "thumbnails" in found["fid"]["features"]


def test_written_pictures_and_their_scores_are_the_translators(evaluated, translating):
    results, folder = evaluated
    truth = translating.batches.truth
    sources = np.rint(127.5 * (truth["a"][:8] + 1)).astype(np.uint8)
    model = translating.model
    translator = Translator(model.method, model.variables, model.config)
    made = translator(sources, "a2b", size=(32, 32))
    written = np.stack([np.asarray(Image.open(folder / "a2b" / f"{i:05d}.png")) for i in range(8)])
    assert np.abs(written.astype(int) - made.images).max() <= 1
    assert len(list((folder / "a2b").iterdir())) == COUNT
    whole = np.stack([np.asarray(Image.open(p)) for p in sorted((folder / "a2b").iterdir())])
    true = np.rint(127.5 * (truth["a_truth"] + 1)).astype(np.uint8)
    assert results["psnr", "a2b"]["value"] == pytest.approx(psnr(whole, true).mean())
    iou = results["attention_iou", "a2b"]
    assert iou["samples"] == [COUNT, COUNT]
    few = heatmap_iou(made.attention, truth["a_mask"][:8])
    assert 0 <= iou["value"] <= 1 and 0 <= few <= 1


def test_label_map_methods_are_scored_by_segmenter_and_attention(synthesizing):
    run = synthesizing
    scenes = [run.batches.tests.read("image", i) for i in range(COUNT)]
    labels = np.stack([scene["label"][..., 0] for scene in scenes])
    calls = iter(range(COUNT))

    def perfect(pictures):
        assert pictures.shape == (1, *labels.shape[1:], 3) and pictures.dtype == np.uint8
        return labels[next(calls)][None]

    settings = Settings(features=thumbnails, segmenter=perfect)
    results = evaluate_run(run, ["fid", "fcn", "psnr", "attention"], settings)
    found = {line["metric"]: line for line in results}
    assert found["fcn_pixel_accuracy"]["value"] == pytest.approx(1)
    seen = np.unique(labels)
    iou = found["fcn_class_iou"]
    assert iou["value"] == pytest.approx(len(seen) / 4)
    assert iou["per_class"]["0"] == pytest.approx(1)
    assert found["fid"]["samples"] == [COUNT, COUNT] and found["psnr"]["value"] > 0
    frequency = found["class_frequency"]["per_class"]
    assert frequency["3"] == pytest.approx(np.mean([(label == 3).any() for label in labels]))
    objects = found["average_frequency"]["per_class"]
    instances = np.stack([scene["instance"][..., 0] for scene in scenes])
    expected = np.mean([len(np.unique(i[x == 1])) for i, x in zip(instances, labels, strict=True)])
    assert objects["1"] == pytest.approx(expected)
    assert 0 <= found["attention_intensity"]["value"] <= 1
    with pytest.raises(DataError, match="mean_fid and mean_kid need"):
        evaluate_run(run, ["mean_kid"], settings)


def test_methods_that_take_noise_are_scored_by_their_samples(tmp_path):
    config = load(find("sndcgan"), "tiny")
    method, side = methods.create(config), config.data.crop_size
    pictures = procedural.test_set(COUNT, side, 0)
    arrays = {"image": pictures["a"], "test_image": pictures["b"]}
    batches = data.create(config, arrays=arrays)
    run = Snapshot(Model(method, {"generator": drawn(method)}, config, 3), batches, samples=6)
    (line,) = evaluate_run(run, ["fid"], Settings(features=thumbnails), output=tmp_path)
    made, real = (collect(x, thumbnails) for x in (tmp_path / "latent2image", pictures["b"]))
    assert line["samples"] == [6, COUNT] and line["direction"] == "latent2image"
    assert line["value"] == pytest.approx(frechet_distance(made, real))
    assert len(np.unique(made.features, axis=0)) == 6
    with pytest.raises(DataError, match="mean_fid and mean_kid need"):
        evaluate_run(run, ["mean_kid"], Settings(features=thumbnails))


def test_methods_with_styles_are_evaluated_with_drawn_styles():
    config = load(find("munit"), "tiny")
    method, truth = methods.create(config), procedural.test_set(3, 32, seed=0)
    arrays = {d: truth[d] for d in "ab"} | {f"test_{d}": truth[d] for d in "ab"}
    variables = {name: drawn(method, name) for name in method.networks_for("a2b")}
    run = Snapshot(Model(method, variables, config, 3), data.create(config, arrays=arrays))
    examples = [list(run.examples("a2b").stream()) for _ in range(2)]
    generate = jax.jit(
        lambda image, key: method.generate(variables, {"image": image}, "a2b", key).images[0]
    )
    for i, (example, other) in enumerate(zip(*examples, strict=True)):
        np.testing.assert_array_equal(example.output, other.output)  # equal draws each time
        key, image = jax.random.key(0), example.source[None]
        keys = (jax.random.fold_in(key, i), jax.random.fold_in(key, i + 1), None)
        error, *others = (np.abs(example.output - generate(image, k)).max() for k in keys)
        assert 10 * error < min(others)  # neither another style nor the mean


def test_attention_counts_what_it_finds():
    counts = ClassAttention(3)
    heat = np.zeros((2, 4, 4, 1), np.float32)
    heat[0, :, :2], heat[1, 0, 0] = 5.0, 1.0
    labels = np.zeros((2, 4, 4), int)
    labels[0, :, 2:], labels[1, :2], labels[1, 3] = 1, 1, VOID
    counts.add(heat, labels)
    table = counts.table()
    # The first class is attended in the first image alone; the third is in no image.
    np.testing.assert_array_equal(table["intensity"], [0.5, 0, np.nan])
    np.testing.assert_array_equal(table["frequency"], [1, 1, 0])
    assert np.isnan(table["average"]).all()
    again = ClassAttention(3)
    again.add(heat[:1], labels[:1], 10 * labels[:1] + (np.arange(4) < 3))
    np.testing.assert_array_equal(again.table()["average"], [1, 2, 0])
    half = ClassAttention(1)
    half.add(heat[:1], np.zeros((1, 4, 4), int))
    assert half.table()["intensity"] == [1]  # half of the pixels suffices


def test_not_a_number_stops_the_evaluation(translating):
    model = translating.model
    broken = jax.tree.map(lambda x: np.full_like(x, np.nan), model.variables)
    with pytest.raises(DataError, match=r"3 generates an image of 00000 \(a2b\) that is not fin"):
        evaluate_run(
            dataclasses.replace(translating, model=model.with_variables(broken, 3)),
            ["fid"],
            Settings(features=thumbnails),
            directions=["a2b"],
        )
    with pytest.raises(ConfigError, match="direction is 'a2c': use one of a2b, b2a"):
        evaluate_run(translating, ["psnr"], directions=["a2c"])


def masked_l1(images, truth, mask):
    return np.abs(images.astype(np.float64) - truth)[mask].mean()


def test_truth_compares_inside_and_outside_the_mask(translating, tmp_path):
    results = evaluate_run(translating, ["truth"], grids=tmp_path)
    truth, model = translating.batches.truth, translating.model
    for direction in model.method.directions:
        source, target, mask = (truth[f"{direction.source}{k}"] for k in ("", "_truth", "_mask"))
        output = model.method.generate(model.variables, {"image": source}, direction)
        images = np.asarray(output.images)
        inside = masked_l1(images, target, mask)
        expected = {
            "mask_l1": inside,
            "mask_l1_ratio": inside / masked_l1(source, target, mask),
            "background_l1": masked_l1(images, source, ~mask),
            "attention_iou": heatmap_iou(output.heatmap, mask),
        }
        found = {r["metric"]: r["value"] for r in results if r["direction"] == direction}
        assert list(found) == list(expected)
        for metric, value in expected.items():
            # An attention pixel at the threshold may tip.
            tolerance = 1e-2 if metric == "attention_iou" else 1e-5
            assert found[metric] == pytest.approx(value, rel=tolerance), metric
        assert (tmp_path / f"result_{direction}.png").is_file()
    assert registry.default_metrics(translating.examples("a2b")) == ("truth",)


def test_a_generator_is_compiled_once_for_all_steps(translating, monkeypatch):
    model = translating.model
    evaluate_run(translating, ["psnr"])
    monkeypatch.setattr(
        type(model.method), "generate", lambda *_: pytest.fail("it was traced again")
    )
    later = model.with_variables(model.variables, 4)
    evaluate_run(dataclasses.replace(translating, model=later), ["psnr"])


def test_examples_know_what_the_data_and_the_method_offer(translating, synthesizing):
    assert translating.examples("a2b").fields == {"source", "target", "mask"}
    examples = synthesizing.examples()
    assert examples.fields == {"label", "instance", "target"}
    assert (examples.count, examples.classes, examples.source) == (COUNT, 4, None)
    assert registry.default_metrics(examples) == ("kid",)
    example = next(examples.stream())
    expected = synthesizing.batches.tests.read("image", 0)
    for kind in ("label", "instance"):
        np.testing.assert_array_equal(getattr(example, kind), expected[kind][..., 0])
    np.testing.assert_array_equal(example.target, expected["image"])


def test_every_metric_of_the_registry_can_be_loaded():
    for place in registry.METRICS.values():
        assert issubclass(registry._load(place), registry.Metric)


def test_results_are_described_in_one_line():
    line = {"metric": "kid", "direction": "a2b", "value": 0.07, "std": 0.008, "step": 1}
    origin = {"convention": "tf", "features": "inception 6726825d", "comparable": True}
    text = describe({**line, **origin, "samples": [120, 140]})
    assert text == "kid a2b: 0.07 +- 0.008 (tf, inception 6726825d, 120 generated, 140 real)"
    assert json.loads(json.dumps(line)) == line
    with pytest.raises(ConfigError, match="name a --label-set"):
        label_set("plain")
