"""The commands: what they write, and one line with exit code 2 for user errors."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganattn import cli
from ganattn.interop import to_authors
from ganattn.interop.torch_files import read_torch
from ganattn.runs.checkpoints import restore_variables

TINY = "ugatit:tiny"
LIGHTER = "cyclegan:tiny"  # traces and compiles in half the time
FILE = Path(__file__).parent / "golden" / "torch" / "ugatit_tiny.pt"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a command in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return command


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A run made from the authors' file, translating at 32 pixels."""
    workdir = tmp_path_factory.mktemp("run") / "run"
    assert cli.main(["import", "ugatit", str(FILE), "--workdir", str(workdir)]) == 0
    return workdir


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


def files(folder):
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def save(path, size=(16, 12), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(array).save(path)


def two_folders(root):
    for domain in "AB":
        for i in range(2):
            save(root / f"train{domain}" / f"{i}.png", seed=i)
    return root


def train(*overrides, config=TINY, workdir="run"):
    return ("train", "--config", config, "--workdir", workdir, *overrides)


def from_folder(*overrides, config=TINY):
    return train(
        "--config.data.source=folder", "--config.data.path=data", *overrides, config=config
    )


def broken_picture(root):
    two_folders(root / "data")
    (root / "data" / "trainB" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")


def truncated(root):
    (root / "cut.pt").write_bytes(FILE.read_bytes()[:50_000])


def with_code(root):
    content = b"cos\nsystem\n(S'touch executed'\ntR."
    with zipfile.ZipFile(root / "code.pt", "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/byteorder", "little")


def foreign(root):
    shutil.copy(FILE.parent / "zip.pt", root / "foreign.pt")


BAD = {
    "no folder": (from_folder(), "no folder data: set config.data.path", None),
    "empty path": (train("--config.data.source=folder"), "config.data.path is empty", None),
    "empty folder": (
        from_folder(), "no folder data/trainA", lambda root: (root / "data").mkdir()
    ),
    "no pictures": (
        from_folder(), "no images in data/trainA",
        lambda root: (root / "data" / "trainA").mkdir(parents=True),
    ),
    "broken picture": (
        from_folder(), "data/trainB/1.png cannot be decoded as an image", broken_picture
    ),
    "size": (train("--config.method.image_size=30"), "image_size is 30", None),
    "batch": (train("--config.data.batch_size=12"), "batch_size is 12, which 8 devices", None),
    "field": (train("--config.data.batchsize=8"), "did you mean config.data.batch_size?", None),
    "group": (train("--config.dta.path=x"), "did you mean config.data?", None),
    "value": (train("--config.data.batch_size=many"), "config override refused", None),
    "flag": (train("--batch_size=8"), "write --config.FIELD=VALUE", None),
    "variant": (train(config="ugatit:horse"), "unknown config variant 'horse'", None),
    "config": (train(config="cyclegun"), "no config file cyclegun", None),
    "method": (train("--config.method.name=gan"), "config.method.name is 'gan'", None),
    "nothing to resume": (("train", "--workdir", "run"), "no run in run to resume", None),
    "nothing to start from": (
        ("train", "--workdir", "run", "--from", "old"), "no run in old to resume or to start", None
    ),
    "no run to start from": (
        train("--from", "old", config="cyclegan:tiny"), "old/checkpoints: train first", None
    ),
    "step of no run": (train("--step", "2"), "name the run of that checkpoint with --from", None),
    "no run": (
        ("translate", "--workdir", "run", "--input", "data", "--output", "out"),
        "", lambda root: two_folders(root / "data"),
    ),
    "foreign file": (("import", "ugatit", "foreign.pt", "--workdir", "run"), "network", foreign),
    "cut file": (("import", "ugatit", "cut.pt", "--workdir", "run"), "cut.pt", truncated),
    "code": (("import", "ugatit", "code.pt", "--workdir", "run"), "code.pt", with_code),
    "no file": (("import", "ugatit", "no.pt", "--workdir", "run"), "no.pt", None),
    "system": (("import", "gan", FILE, "--workdir", "run"), "unknown system 'gan'", None),
    "no run to export": (("export", "--workdir", "run", "--output", "x"), "run", None),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_no_files(run, tmp_path, case):
    arguments, message, prepare = BAD[case]
    if prepare:
        prepare(tmp_path)
    before = files(tmp_path)
    code, out, err = run(*arguments)
    assert code == 2 and out == ""
    assert err.startswith("ganattn: ") and err.count("\n") == 1, err
    assert message in err
    assert files(tmp_path) == before


def test_dry_run_prints_and_writes_nothing(run, tmp_path):
    code, out, _ = run(*train("--config.seed=5", "--dry-run"))
    assert code == 0
    assert '"seed": 5' in out and "generator_a2b:" in out and "8 x cpu" in out
    assert not list(tmp_path.iterdir())


def test_import_translate_and_back(run, imported, tmp_path):
    networks = read_torch(FILE)
    variables, _ = restore_variables(imported / "checkpoints")
    for name, arrays in to_authors("ugatit", variables).items():
        for key, array in arrays.items():
            np.testing.assert_array_equal(array, networks[name][key])
    save(tmp_path / "in" / "one.png", (32, 32))
    save(tmp_path / "in" / "deep" / "two.jpg", (40, 30))
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    common = ("translate", "--workdir", imported, "--output", "out")
    code, out, _ = run(*common, "--input", "in", "--direction", "b2a", "--heatmaps")
    assert code == 0 and "2 images in out" in out
    found = {str(p.relative_to("out")) for p in Path("out").rglob("*") if p.is_file()}
    both = {"one.png", "deep/two.jpg"}
    assert found == both | {f"heatmaps/{name}" for name in both}
    assert pixels("out/one.png").shape == (256, 256, 3)
    code, _, _ = run(*common[:-1], "single", "--input", "in/one.png", "--direction", "b2a")
    assert code == 0
    np.testing.assert_allclose(pixels("single/one.png"), pixels("out/one.png"), atol=1)


def test_one_broken_picture_among_those_to_translate(run, imported, tmp_path):
    save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_bytes(b"nothing")
    arguments = ("--workdir", imported, "--input", "in", "--output", "out")
    code, _, err = run("translate", *arguments)
    assert code == 2 and err.count("\n") == 1 and "in/b.png" in err
    assert not Path("out").exists()


def test_a_direction_that_does_not_exist(run, imported, tmp_path):
    save(tmp_path / "a.png")
    arguments = ("--workdir", imported, "--input", "a.png", "--output", "out")
    code, _, err = run("translate", *arguments, "--direction", "b2c")
    assert code == 2 and err.count("\n") == 1
    assert "direction is 'b2c': use one of a2b, b2a" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--seed", 1), "seed does not apply"),
        (("--styles", 2), "styles does not apply"),
        (("--style", "a.png"), "style does not apply"),
        (("--instances", "a.png"), "instances do not apply"),
    ],
)
def test_flags_that_do_not_apply(run, imported, tmp_path, flags, message):
    save(tmp_path / "a.png")
    arguments = ("--workdir", imported, "--input", "a.png", "--output", "out")
    code, _, err = run("translate", *arguments, *flags)
    assert code == 2 and err.count("\n") == 1 and message in err
    assert not Path("out").exists()
    code, _, err = run("sample", "--workdir", imported, "--grid", "out")
    assert code == 2 and err.count("\n") == 1 and "use ganattn translate" in err


def test_images_of_different_sizes_keep_them(run, imported, tmp_path):
    sizes = {"a.png": (32, 24), "b.png": (24, 32), "deep/c.png": (32, 24), "d.png": (31, 25)}
    for name, size in sizes.items():
        save(tmp_path / "in" / name, size)
    Image.open(tmp_path / "in" / "b.png").save(
        tmp_path / "in" / "b.png", exif=exif_of_a_turned_image()
    )
    arguments = ("--workdir", imported, "--input", "in", "--output", "out")
    code, _, _ = run("translate", *arguments, "--size", "keep")
    assert code == 0
    for name in sizes:
        assert pixels(f"out/{name}").shape == (32, 24, 3)


def exif_of_a_turned_image():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def test_import_does_not_overwrite_a_run(run, imported):
    before = files(imported)
    code, _, err = run("import", "ugatit", FILE, "--workdir", imported)
    assert code == 2 and "already holds a run" in err and err.count("\n") == 1
    assert files(imported) == before


def test_train_watch_resume_and_refuse(run, tmp_path, caplog):
    """One run through: it finishes, is extended, and refuses another architecture."""
    two_folders(tmp_path / "data")
    (tmp_path / "data" / "trainA" / "bad.jpg").write_bytes(b"nothing")
    code, out, err = run(*from_folder(
        "--config.data.on_error=skip", "--config.optimizer.total_steps=2",
        "--config.train.pictures_every=0",
        "--config.optimizer.decay_start_step=-1",  # so that a longer run is the same program
        config=LIGHTER,
    ))  # fmt: skip
    assert code == 0 and "finished at step 2" in out
    assert "1 corrupt images were skipped" in caplog.text and "bad.jpg" in caplog.text
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    before = files(tmp_path)
    code, _, err = run(
        *from_folder("--config.data.on_error=skip", "--config.method.width=8", config=LIGHTER)
    )
    assert code == 2 and "config.method.width is 4 there and 8 here" in err
    assert err.count("\n") == 1
    assert files(tmp_path) == before
    code, out, _ = run("train", "--workdir", "run", "--config.optimizer.total_steps=3")
    assert code == 0 and "finished at step 3" in out
    checkpoint = next(
        path
        for path in Path("run/checkpoints/3").rglob("*")
        if path.is_file() and path.stat().st_size > 1000
    )
    checkpoint.write_bytes(checkpoint.read_bytes()[:500])
    code, out, _ = run("train", "--workdir", "run", "--config.optimizer.total_steps=3")
    assert code == 0 and "finished at step 3" in out
    assert "run/checkpoints/3 is damaged" in caplog.text
    assert "run after step 2" in caplog.text
