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
PROFILES = ("pytorch", "tf")  # the authors' code bases of U-GAT-IT


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
    text = "method of the authors' code, such as ugatit, or its config, such as spade:cityscapes"
    parser.add_argument("system", metavar="SYSTEM[:VARIANT]", help=text)
    text = (
        "checkpoint: one file, or *_net_NAME.pth, or gen_*.pt and dis_*.pt, or NAME=FILE; of "
        "TensorFlow: CHECKPOINT without .index, or its folder"
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help=text)
    text = "(ugatit) the code that wrote the checkpoint (default: as the files show)"
    parser.add_argument("--profile", choices=PROFILES, help=text)


def import_config(options: argparse.Namespace) -> str:
    """The config that an import starts from, as `train --config` takes it."""
    from ganattn import config as configuration
    from ganattn import interop
    from ganattn.inference.authors import TENSORFLOW, variant_of

    system, _, variant = options.system.partition(":")
    interop.networks_of(system)
    words = [word for word in variant.split(",") if word]
    profile = options.profile or variant_of(options.files)
    if profile and "profile" not in configuration.load(configuration.find(system)).method:
        raise ConfigError(f"profile {profile!r} does not apply: {system} has PyTorch code only")
    if profile == TENSORFLOW and TENSORFLOW not in words:
        words.append(TENSORFLOW)
    return f"{system}:{','.join(words)}"


def import_authors(options: argparse.Namespace, config: Any) -> None:
    """Writes a checkpoint of the authors' code as step 0 of a run.

    config: from `import_config`, with the overrides of the command. A variant answers what the
    files do not show, and so do overrides, which must not contradict them.
    """
    import jax

    from ganattn import config as configuration
    from ganattn import methods
    from ganattn.inference.authors import read_authors
    from ganattn.runs.checkpoints import Checkpoints
    from ganattn.runs.workdir import write_config

    store = Checkpoints(options.workdir / "checkpoints")
    if store.latest() is not None:
        raise CheckpointError(f"{options.workdir} already holds a run: name another workdir")
    system, _, variant = options.system.partition(":")
    start = "--config.method."
    named = [o.partition("=")[0] for o in options.overrides]
    overridden = [name.removeprefix(start) for name in named if name.startswith(start)]
    answers = None if variant else [*overridden, *(["profile"] if options.profile else [])]
    wanted = config.method
    config, variables = read_authors(options.files, system, config, answers)
    for name in overridden:
        if config.method[name] != wanted[name]:
            raise ConfigError(
                f"{start}{name}={wanted[name]} contradicts the files, which give "
                f"{config.method[name]}: leave it out"
            )
    state = methods.create(config).create_state(jax.random.key(config.seed), variables)
    store.save(0, state, config)
    store.close()
    write_config(config, options.workdir)
    note, default = "", configuration.load(configuration.find(system)).method
    if config.method.get("perceptual_weight") != default.get("perceptual_weight"):
        note = "; the perceptual loss is off: no VGG19 file (config.method.perceptual_weights)"
    print(f"{', '.join(sorted(variables))} are in {options.workdir}, as step 0 of a run{note}")


def add_export(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `export`."""
    _add_run(parser)
    text = "stablehlo: a generator that jax.export.deserialize reads (default); authors: all "
    text += "networks as the authors' code saves them"
    parser.add_argument(
        "--format", choices=("stablehlo", "authors"), default="stablehlo", help=text
    )
    text = "StableHLO file, or folder for the authors' files"
    parser.add_argument("--output", type=Path, required=True, metavar="PATH", help=text)
    text = "(stablehlo) such as b2a (default: the method's first)"
    parser.add_argument("--direction", help=text)


def export(options: argparse.Namespace) -> None:
    """Writes a generator of images from images as StableHLO, or all networks as the authors do."""
    from ganattn.inference.authors import write_authors
    from ganattn.inference.export import export_translator
    from ganattn.inference.model import Model

    is_authors = options.format == "authors"
    if is_authors and options.direction:
        raise ConfigError("--direction does not apply: --format authors writes all networks")
    model = Model.from_workdir(options.workdir, options.step, average=not options.live)
    if is_authors:
        files = write_authors(options.output, model.config, model.variables, model.step or 0)
        print(f"{', '.join(file.name for file in files)} in {options.output}")
        return
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
