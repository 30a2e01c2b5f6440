"""`ganattn evaluate` on the command line: folders, files of statistics, runs on other data."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganattn import cli
from ganattn.data import procedural
from ganattn.evaluation.evaluate import evaluate_images
from ganattn.evaluation.labels import CITYSCAPES
from ganattn.evaluation.settings import Settings
from ganattn.runs.results import read_results

FILE = Path(__file__).parent / "golden" / "torch" / "ugatit_tiny.pt"


def thumbnails(images):
    """Features that need no network: 4 x 4 pixels."""
    step = images.shape[1] // 4
    return images[:, ::step, ::step].reshape(len(images), -1) / 255


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs `ganattn evaluate` in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    (tmp_path / "mine.py").write_text(
        "def thumbnails(pictures):\n    return pictures[:, ::4, ::4].reshape(len(pictures), -1)\n"
        "dark = lambda pictures: (pictures.mean(-1) < 128).astype(int)\nnumber = 3\n"
    )

    def command(*arguments):
        capsys.readouterr()
        code = cli.main(["evaluate", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return command


def pictures(folder, count, seed=0, side=12):
    folder.mkdir()
    values = np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)
    for i, picture in enumerate(values):
        Image.fromarray(picture).save(folder / f"{i}.png")
    return values


MINE = ("--fakes", "fakes", "--reals", "reals", "--features", "mine:thumbnails")


def test_folders_are_scored_on_the_command_line(run, tmp_path):
    fakes, reals = pictures(tmp_path / "fakes", 8), pictures(tmp_path / "reals", 8, seed=1)
    code, out, err = run(*MINE, "--output", "out", "--metrics", "fid,kid,psnr", "--kid", "blocks")
    assert (code, err) == (0, "")
    lines = read_results(tmp_path / "out")
    assert [line["metric"] for line in lines] == ["fid", "kid", "psnr"]
    assert lines[0]["samples"] == [8, 8] and not lines[0]["comparable"]
    expected = evaluate_images(fakes, reals, ["fid", "psnr"], Settings(features=thumbnails))
    assert lines[2]["value"] == pytest.approx(expected[1]["value"])
    assert "fid: " in out and "8 generated, 8 real" in out and "not comparable" in out
    assert lines[1]["std"] is None and "blocks of 10" in out  # of one block there is no error


def test_statistics_files_stand_for_the_reals(run, tmp_path):
    pictures(tmp_path / "fakes", 8), pictures(tmp_path / "reals", 9, seed=1)
    assert run(*MINE, "--metrics", "fid", "--output", "a", "--save-statistics", "reals.npz")[0] == 0
    again = ["reals.npz" if word == "reals" else word for word in MINE]
    assert run(*again, "--metrics", "fid", "--output", "b")[0] == 0
    one, other = (read_results(tmp_path / name)[0] for name in "ab")
    assert one["value"] == pytest.approx(other["value"], rel=1e-6)
    assert run(*again, "--metrics", "kid", "--output", "b")[0] == 0  # features were kept
    assert run(*MINE, "--metrics", "kid", "--output", "a")[0] == 0
    one, other = (read_results(tmp_path / name)[1] for name in "ab")
    assert one["value"] == pytest.approx(other["value"], rel=1e-6)
    with np.load("reals.npz") as file:
        np.savez("foreign.npz", mu=file["mu"], sigma=file["sigma"])  # as pytorch-fid writes them
    foreign = ["foreign.npz" if word == "reals" else word for word in MINE]
    assert run(*foreign, "--metrics", "fid", "--output", "c")[0] == 0
    assert read_results(tmp_path / "c")[0]["value"] == pytest.approx(
        read_results(tmp_path / "a")[0]["value"], rel=1e-6
    )
    code, out, err = run(*foreign, "--metrics", "fid,kid")
    assert (code, out) == (2, "") and "KID needs features" in err and err.count("\n") == 1


def test_painted_label_maps_are_scored_by_their_colours(run, tmp_path):
    colours = np.array([colour for _, _, colour in CITYSCAPES], np.uint8)
    labels = np.random.default_rng(0).integers(0, 19, (2, 8, 10))
    (tmp_path / "fakes").mkdir(), (tmp_path / "truth").mkdir()
    for i, label in enumerate(labels):
        noisy = colours[label].astype(int) + np.random.default_rng(i).integers(-3, 4, (8, 10, 3))
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(tmp_path / f"fakes/c_{i}.png")
        ids = np.array([number for number, _, _ in CITYSCAPES], np.uint8)[label]
        ids = np.where(ids == 7, 0, ids).astype(np.uint8)  # unlabelled
        double = ids.repeat(2, 0).repeat(2, 1)
        Image.fromarray(double).save(tmp_path / f"truth/c_{i}_gtFine_labelIds.png")
    chosen = ("--fakes", "fakes", "--labels", "truth", "--label-set", "cityscapes")
    code, out, _ = run(*chosen, "--metrics", "labels", "--output", "out")
    assert code == 0 and "road 0, sidewalk 1, building 1" in out
    found = {line["metric"]: line for line in read_results(tmp_path / "out")}
    assert found["labels_pixel_accuracy"]["value"] == pytest.approx(1)
    assert found["labels_class_iou"]["value"] == pytest.approx(18 / 19)
    assert found["labels_class_iou"]["per_class"]["road"] == 0
    assert found["labels_class_iou"]["per_class"]["bicycle"] == pytest.approx(1)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "give --workdir, or --fakes and --reals"),
        (("--workdir", "run", "--fakes", "fakes"), "give --workdir, or --fakes"),
        (("--workdir", "none"), "no checkpoint"),
        (("--fakes", "fakes"), "give --reals"),
        (("--fakes", "fakes", "--reals", "none"), "no folder none"),
        (("--fakes", "fakes", "--reals", "empty"), "no images in empty"),
        ((*MINE, "--metrics", "fid,lpips"), "--metrics has no metric 'lpips'"),
        ((*MINE, "--metrics", "kid", "--subset-size", "50"), "subset size below 5, such as 2"),
        ((*MINE, "--metrics", "mean_kid"), "give --source"),
        ((*MINE, "--metrics", "fcn"), "--segmenter MODULE:FUNCTION"),
        ((*MINE, "--metrics", "labels"), "are unknown: name a --label-set"),
        ((*MINE, "--metrics", "attention_iou"), "needs masks"),
        (("--fakes", "mixed", "--reals", "fakes", "--metrics", "psnr"), "must have the same names"),
        ((*MINE, "--label-set", "ade", "--metrics", "labels"), "no label set 'ade'"),
        (("--fakes", "fakes", "--metrics", "labels", "--label-set", "facades"), "no true label"),
        ((*MINE, "--config.data.path=x"), "give --workdir"),
        ((*MINE, "--step", "3"), "--step does not go with --fakes"),
        (("--workdir", "run", "--reals", "reals"), "--reals does not go with --workdir"),
        (("--fakes", "fakes", "--reals", "big", "--features", "mine:thumbnails"), "channels"),
        (("--fakes", "mixed", "--reals", "reals", "--features", "mine:thumbnails"), "--size"),
        ((*MINE[:4], "--features", "mine:none"), "cannot import mine:none"),
        ((*MINE[:4], "--features", "mine:number"), "mine:number is not callable"),
        ((*MINE[:4], "--features", "mine.py"), "begins 6726825d"),
    ],
)
def test_what_cannot_be_scored_is_one_clear_line(run, tmp_path, arguments, message):
    for name, count, side in (("fakes", 5, 12), ("reals", 6, 12), ("big", 6, 16), ("mixed", 2, 12)):
        pictures(tmp_path / name, count, side=side)
    Image.new("RGB", (9, 9)).save(tmp_path / "mixed" / "9.png")
    (tmp_path / "mixed" / "0.png").rename(tmp_path / "mixed" / "00.png")
    (tmp_path / "empty").mkdir()
    chosen = arguments if "--metrics" in arguments else (*arguments, "--metrics", "fid")
    code, out, err = run(*chosen)
    assert (code, out) == (2, "")
    assert message in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_an_imported_run_is_scored_on_other_data(run, tmp_path):
    assert cli.main(["import", "ugatit", str(FILE), "--workdir", "run"]) == 0
    sides = procedural.test_set(4, 32, seed=0)
    np.savez(tmp_path / "pictures.npz", **{d: sides[d] for d in "ab"})
    size = ("--config.data.crop_size=32", "--config.data.load_size=32")
    data = ("--config.data.source=arrays", "--config.data.path=pictures.npz")
    chosen = ("--workdir", "run", "--features", "mine:thumbnails", "--direction", "b2a")
    code, out, err = run(*chosen, "--metrics", "fid", *data, *size)
    assert (code, err) == (0, "") and out.startswith("fid b2a: ")
    (line,) = read_results(tmp_path / "run")
    assert line["samples"] == [4, 4] and line["step"] == 0
    assert "no test images" in line["split"] and "no test images" in out
    code, _, err = run(*chosen, "--metrics", "psnr", *data, *size)
    assert code == 2 and "evaluate pairs" in err
