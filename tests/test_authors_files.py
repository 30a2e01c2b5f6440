"""The authors' files by the command line: import, translate, and export to the same files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganattn import cli, interop, methods
from ganattn.config import find, from_dict, load
from ganattn.errors import ConfigError, ForeignFileError
from ganattn.inference.authors import read_authors, write_authors
from ganattn.interop.torch_files import read_torch
from ganattn.interop.torch_writer import write_torch
from ganattn.runs.checkpoints import restore_variables


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a command in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert code == 0 or (err.startswith("ganattn: ") and err.count("\n") == 1), err
        return code, out, err

    return command


def authors_files(system, folder, variant="tiny"):
    """Files in the authors' layout with random weights; returns (config, {file: content})."""
    config = load(find(system), variant)
    method = methods.create(config)
    random = np.random.default_rng(0)

    def fill(tree):
        if hasattr(tree, "items"):
            return {name: fill(branch) for name, branch in tree.items()}
        return random.normal(1, 0.1, tree.shape).round(3).astype(tree.dtype)

    names = [name for name in method.networks if name != "perceptual"]
    options = {name: config.method[name] for name in interop.option_names(system)}
    variables = {name: fill(method.shapes(name)) for name in names}
    networks = interop.to_authors(system, variables, **options)
    assert len(networks) == len(names)
    contents = interop.to_files(system, networks, 0)
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        write_torch(folder / name, content)
    return config, contents


def assert_same(content, expected):
    assert content.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, dict):
            assert_same(content[key], value)
        else:
            np.testing.assert_array_equal(content[key], value, strict=True)


CITYSCAPES = [
    f"--config.method.{field}"
    for field in ("up_sampling=normal", "num_classes=4", "use_instances=1")
]
FORMS = {
    **{system: ("tiny", system, ()) for system in interop.systems()},
    "cyclegan": ("tiny,dropout", "cyclegan", ()),
    "dagan": ("tiny,gaugan", "dagan", CITYSCAPES),
    "spade": ("tiny,instance_norm", "spade:tiny", ()),
}


@pytest.mark.parametrize("system", FORMS)
def test_files_go_through_a_run_and_back(run, tmp_path, system):
    """Import reads every field of the method, translate runs, and export gives equal arrays."""
    variant, name, flags = FORMS[system]
    config, contents = authors_files(system, tmp_path / "in", variant)
    files = [tmp_path / "in" / file for file in contents]
    code, out, err = run("import", name, *files, *flags, "--workdir", "run")
    assert code == 0, err
    is_label = system in ("spade", "dagan")
    assert ("the perceptual loss is off" in out) == (is_label or system == "cartoongan")
    meta = restore_variables(Path("run/checkpoints"))[1]
    imported = from_dict(meta["config"]).method
    known = interop.method_fields(system, networks(contents), config.method)
    assert {n: imported[n] for n in known} == {n: config.method[n] for n in known}

    arguments = ["--workdir", "run", "--input", "a.png", "--output", "out"]
    shape, most = (32, 32, 3), 256
    if is_label:
        shape, most = (32, 32), 4
        arguments += ["--instances", "a.png"]
    side = 64 if system == "fal" else 32
    if "gaugan" not in variant and system != "fal":  # whose files show the size
        arguments += ["--size", "32x32"]
    image = np.random.default_rng(0).integers(0, most, shape, np.uint8)
    Image.fromarray(image).save("a.png")
    code, _, err = run("translate", *arguments)
    assert code == 0, err
    with Image.open("out/a.png") as image:
        assert image.size == (side, side) and image.mode == "RGB"
    if system == "cyclegan":
        code, _, err = run("translate", *arguments, "--heatmaps")
        assert code == 2 and "--heatmaps does not apply: cyclegan has no attention" in err

    code, out, err = run("export", "--workdir", "run", "--format", "authors", "--output", "back")
    assert code == 0, err
    assert {file.name for file in Path("back").iterdir()} == set(contents)
    for file, content in contents.items():
        assert file in out
        assert_same(read_torch(Path("back") / file), content)


def networks(contents):
    """The networks of all files by the authors' names, as `import` gathers them."""
    found = {}
    for file, content in contents.items():
        kind = file.partition("_")[0]
        if "_net_" in file:
            found[Path(file).stem.partition("_net_")[2]] = content
        else:
            prefix = f"{kind}_" if kind in ("gen", "dis") else ""
            found |= {f"{prefix}{name}": arrays for name, arrays in content.items()}
    return found


def test_what_the_files_of_spade_do_not_show(run, tmp_path):
    """One line that names the flags and their choices; what contradicts the file is refused."""
    _, contents = authors_files("spade", tmp_path / "in")
    files = [tmp_path / "in" / file for file in contents]

    def error(name, *flags):
        code, _, err = run("import", name, *files, "--workdir", "run", *flags)
        assert code == 2 and not Path("run/config.json").exists()
        return err

    text = error("spade")
    assert "--config.method.up_sampling=more or normal" in text
    assert "--config.method.use_instances=False or True" in text and "spade:cityscapes" in text
    text = error("spade", *CITYSCAPES[1:])
    assert "--config.method.up_sampling=more or normal" in text and "use_instances" not in text
    assert "contradict num_classes=35" in error("spade:cityscapes")
    text = error("spade:tiny", "--config.method.width=7")
    assert "--config.method.width=7 contradicts the files, which give 1: leave it out" in text
    assert "has no field 'up_samplin': did you mean" in error(
        "spade", "--config.method.up_samplin=x"
    )
    assert "profile 'tf' does not apply: spade has" in error("spade", "--profile", "tf")
    with pytest.raises(ConfigError, match="leave open"):
        read_authors(files, "spade")


def test_generators_and_discriminators_of_one_name(tmp_path, monkeypatch):
    """MUNIT's files hold networks `a` and `b` both; the file's name tells them apart."""
    weights = {name: {"w": np.ones(2, np.float32)} for name in "ab"}
    for name in ("gen_00000010.pt", "dis_00000010.pt", "other.pt"):
        write_torch(tmp_path / name, weights)
    given = {}
    monkeypatch.setattr(interop, "from_authors", lambda _, networks: given.update(networks) or {})
    monkeypatch.setattr(interop, "method_fields", lambda *_: {})
    monkeypatch.chdir(tmp_path)
    for other in ("dis_00000010.pt", "dis=other.pt"):
        given.clear()
        read_authors(["gen_00000010.pt", other], "cyclegan")
        assert sorted(given) == ["dis_a", "dis_b", "gen_a", "gen_b"]
    with pytest.raises(ForeignFileError, match=r"other\.pt holds gen_a again"):
        read_authors(["gen_00000010.pt", "gen=other.pt"], "cyclegan")


def test_a_method_without_the_authors_names(tmp_path):
    with pytest.raises(ConfigError, match="the authors' layout of sndcgan is not known: it is"):
        write_authors(tmp_path / "out", load(find("sndcgan"), "tiny"), {})
    assert not (tmp_path / "out").exists()
