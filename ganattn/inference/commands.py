"""`ganattn translate`, `sample`, `import` and `export`: their options and what they do.

Loads nothing heavy until a command runs.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ganattn.errors import CheckpointError, ConfigError
from ganattn.runs.arguments import add_step, add_workdir

GROUP = 8  # images per device that are read at once


def add_translate(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `translate`."""
    _add_run(parser)
    add = parser.add_argument
    add("--input", type=Path, required=True, metavar="PATH", help="image, label map, or folder")
    text = "folder for the images, which keep their file names"
    add("--output", type=Path, required=True, metavar="FOLDER", help=text)
    add("--direction", help="such as b2a (default: the method's first)")
    text = "train: size of training (default); keep: each image's own, rounded; or WIDTHxHEIGHT"
    add("--size", type=_size, help=text)
    add("--heatmaps", action="store_true", help="also write attention maps to FOLDER/heatmaps")
    text = "(label-map methods) instance map, or folder of instance maps"
    add("--instances", type=Path, metavar="PATH", help=text)
    text = "(methods with styles) example image to take the style from"
    add("--style", type=Path, metavar="IMAGE", help=text)
    text = "seed of the dropout that remains in translation, or (methods with styles) draw a style"
    add("--seed", type=int, help=f"{text} for each image")
    text = "(methods with styles) draw N styles for each image, written as NAME_0, NAME_1, ..."
    add("--styles", type=int, metavar="N", help=text)


def translate(options: argparse.Namespace) -> None:
    """Translates the input and writes the images, in groups of one size."""
    from ganattn.data.images import find_images
    from ganattn.figures import save_image
    from ganattn.inference.translator import Translator

    is_file = options.input.is_file()
    names = [Path(options.input.name)] if is_file else find_images(options.input)
    root = options.input.parent if is_file else options.input
    model = Translator.from_workdir(options.workdir, options.step, average=not options.live)
    for indices in _groups(model, [root / name for name in names], options):
        group = [names[i] for i in indices]
        result = model(
            [root / name for name in group],
            options.direction,
            size=options.size,
            instances=_instance_files(options.instances, group),
            style=options.style,
            seed=options.seed,
            styles=options.styles,
            indices=indices,
        )
        heatmaps = result.heatmaps if options.heatmaps else ()
        if heatmaps is None:
            raise ConfigError(f"--heatmaps does not apply: {model.name} has no attention")
        outputs = [output for name in group for output in _outputs(name, options.styles)]
        for output, image in zip(outputs, result.images, strict=True):
            save_image(options.output / output, image)
        for output, heatmap in zip(outputs, heatmaps, strict=False):
            save_image(options.output / "heatmaps" / output, heatmap)
    print(f"{len(names) * (options.styles or 1)} images in {options.output}")


def add_sample(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `sample`."""
    _add_run(parser)
    add = parser.add_argument
    text = "number of images or interpolation paths (default: %(default)s)"
    add("--num", type=int, default=16, metavar="N", help=text)
    add("--seed", type=int, default=0, help="seed of the latent vectors (default: %(default)s)")
    add("--output", type=Path, metavar="FOLDER", help="folder for the images")
    add("--grid", type=Path, metavar="FILE", help="file for all images side by side")
    add("--heatmaps", action="store_true", help="also write attention maps to FOLDER/heatmaps")
    text = "file for the images beside their attention maps"
    add("--attention-grid", type=Path, metavar="FILE", help=text)
    add("--interpolate", type=int, metavar="STEPS", help="number of images in a path")
    text = "bound of the latent vectors' numbers, 0 for none (default: that of the run)"
    add("--truncation", type=float, metavar="BOUND", help=text)


def sample(options: argparse.Namespace) -> None:
    """Generates images from noise and writes them."""
    from ganattn.figures import save_grid, save_image
    from ganattn.inference.sampler import Sampler

    files = options.output, options.grid, options.attention_grid
    if not any(files):
        raise ConfigError("nothing to write: give --output, --grid or --attention-grid")
    if options.heatmaps and not options.output:
        raise ConfigError("--heatmaps are written into a folder: give --output")
    model = Sampler.from_workdir(options.workdir, options.step, average=not options.live)
    if options.interpolate is None:
        samples = model(options.num, options.seed, options.truncation)
    else:
        counts = options.num, options.interpolate
        samples = model.interpolate(*counts, options.seed, options.truncation)
    if not samples.attentions and (options.heatmaps or options.attention_grid):
        flag = "--heatmaps" if options.heatmaps else "--attention-grid"
        raise ConfigError(f"{flag} does not apply: the generator of {model.name} has no attention")
    if options.output:
        digits = max(4, len(str(len(samples.images) - 1)))
        heatmaps = samples.heatmaps if options.heatmaps else {}
        folders = {"": samples.images, **{f"heatmaps/{name}": m for name, m in heatmaps.items()}}
        for folder, images in folders.items():
            for i, image in enumerate(images):
                save_image(options.output / folder / f"{i:0{digits}d}.png", image)
    if options.grid:
        save_image(options.grid, samples.mosaic())
    if options.attention_grid:
        save_grid(options.attention_grid, samples.columns())
    print(f"{len(samples.images)} images in {', '.join(str(file) for file in files if file)}")


def add_import(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `import`."""
    add_workdir(parser)
    parser.add_argument("system", help="method of the authors' code, such as ugatit or cyclegan")
    text = "checkpoint: one file, or *_net_NAME.pth, or gen_*.pt and dis_*.pt, or NAME=FILE"
    parser.add_argument("files", nargs="+", metavar="FILE", help=text)


def import_authors(options: argparse.Namespace) -> None:
    """Writes a checkpoint of the authors' code as step 0 of a run."""
    import jax

    from ganattn import config as configuration
    from ganattn import methods
    from ganattn.inference.authors import read_authors
    from ganattn.runs.checkpoints import Checkpoints
    from ganattn.runs.workdir import write_config

    store = Checkpoints(options.workdir / "checkpoints")
    if store.latest() is not None:
        raise CheckpointError(f"{options.workdir} already holds a run: name another workdir")
    config, variables = read_authors(options.files, options.system)
    state = methods.create(config).create_state(jax.random.key(config.seed), variables)
    store.save(0, state, config)
    store.close()
    write_config(config, options.workdir)
    note, default = "", configuration.load(configuration.find(options.system)).method
    if config.method.get("perceptual_weight") != default.get("perceptual_weight"):
        note = "; the perceptual loss is off: no VGG19 file (config.method.perceptual_weights)"
    print(f"{', '.join(sorted(variables))} are in {options.workdir}, as step 0 of a run{note}")


def add_export(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `export`."""
    _add_run(parser)
    text = "StableHLO file, which jax.export.deserialize reads"
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help=text)
    parser.add_argument("--direction", help="such as b2a (default: the method's first)")


def export(options: argparse.Namespace) -> None:
    """Writes a generator of images from images as StableHLO."""
    from ganattn.inference.export import export_translator
    from ganattn.inference.model import Model

    model = Model.from_workdir(options.workdir, options.step, average=not options.live)
    shape = export_translator(model.method, model.variables, options.output, options.direction)
    sides = ", ".join(map(str, shape))
    print(f"{options.output}: images (b, {sides}) in [-1, 1], any batch b")


def _add_run(parser: argparse.ArgumentParser) -> None:
    add_workdir(parser)
    add_step(parser)
    text = "use the current weights instead of their moving average"
    parser.add_argument("--live", action="store_true", help=text)


def _size(text: str) -> Any:
    sides = text.split("x")
    if text in ("train", "keep"):
        return text
    if len(sides) != 2 or not all(side.isdecimal() for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: give train, keep or 512x256")
    return int(sides[0]), int(sides[1])


def _groups(model: Any, files: Sequence[Path], options: argparse.Namespace) -> Iterator[list[int]]:
    """Indices of images of one size, as many as are read at once."""
    import jax

    from ganattn.data.images import read_size

    groups: dict[Any, list[int]] = {}
    for i, file in enumerate(files):
        shape = read_size(file) if options.size == "keep" else (0, 0)
        size = model.target_size(shape, options.direction, options.size)
        groups.setdefault(size, []).append(i)
    length = GROUP * jax.local_device_count()
    for indices in groups.values():
        for start in range(0, len(indices), length):
            yield indices[start : start + length]


def _instance_files(instances: Path | None, names: Sequence[Path]) -> list[Path] | None:
    """The instance maps of label maps: one file, or files of the same names in a folder."""
    if instances is None:
        return None
    return [instances] if instances.is_file() else [instances / name for name in names]


def _outputs(name: Path, styles: int | None) -> list[Path]:
    """The files of one image's translations."""
    if styles is None:
        return [name]
    return [name.with_name(f"{name.stem}_{i}{name.suffix}") for i in range(styles)]
