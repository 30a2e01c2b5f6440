"""The command line: `ganattn COMMAND`, see `ganattn --help`.

Exit codes: 0 done or preempted and saved, 2 something that the caller can mend (a line says what),
3 a training process died (a line says which).
"""

import argparse
import difflib
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from absl import flags
from etils import epath
from ml_collections import ConfigDict, config_flags

from ganattn import config as configuration
from ganattn.errors import CheckpointError, ConfigError, explain, silence_storage_tracebacks
from ganattn.evaluation.options import add_options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    _prepare_logging()
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    options.arguments = list(sys.argv[1:] if arguments is None else arguments)
    if rest and options.command not in (_train, _evaluate):
        parser.error(f"unknown arguments: {' '.join(rest)}")
    _prepare_environment()
    try:
        return options.command(options, rest) or 0
    except Exception as error:
        text = explain(error)
        if text is None:
            raise
        print(f"ganattn: {text}", file=sys.stderr)
        return 2


def run() -> None:
    """Entry point of the `ganattn` script."""
    _prepare_logging()
    silence_storage_tracebacks()
    code = main()
    if code:  # threads that wait for what has failed would hold up the exit for minutes
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("ganattn", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(title="commands", required=True)

    def add(name: str, command: Callable, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        if name != "table":
            sub.add_argument("--workdir", type=_folder, required=True, help="folder of the run")
        sub.set_defaults(command=command)
        return sub

    train = add("train", _train, "Trains from a config, or resumes the run in the workdir.")
    train.add_argument(
        "--config", help="FILE[:VARIANT], and --config.FIELD=VALUE; the run's own when it resumes"
    )
    train.add_argument("--dry-run", action="store_true", help="print the resolved run and stop")
    several = train.add_argument_group(
        "several processes",
        "On TPU pods and in Slurm they find each other; elsewhere give the first three.",
    )
    several.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    several.add_argument("--num-processes", type=int, metavar="N", help="1 trains alone, anywhere")
    several.add_argument("--process-id", type=int, metavar="I", help="of this one, from 0")
    several.add_argument(
        "--local-processes", type=int, default=1, metavar="N", help="start N on this machine"
    )
    several.add_argument(
        "--max-restarts", type=int, default=0, metavar="R", help="resume so often when one dies"
    )
    several.add_argument(
        "--worker-timeout",
        type=int,
        default=60,
        metavar="S",
        help="seconds after which a silent process counts as dead and ends the others",
    )

    translate = add(
        "translate", _translate, "Translates a picture or label map, or a folder of them."
    )
    translate.add_argument("--input", type=Path, required=True, help="picture or folder")
    translate.add_argument("--output", type=Path, required=True, help="folder; file names are kept")
    translate.add_argument("--direction", default="a2b", help="a2b or b2a")
    translate.add_argument("--heatmaps", action="store_true", help="also write OUTPUT/heatmaps")
    translate.add_argument("--instances", type=Path, help="of label maps: instance map or folder")
    translate.add_argument(
        "--style", type=Path, help="of label maps: a picture whose style is used"
    )
    translate.add_argument("--seed", type=int, help="of label maps: draws a style for each")
    translate.add_argument(
        "--step", type=_step, help='of the checkpoint, or "best"; the newest whole one'
    )

    text = "Scores a run's test pictures, or any pictures, as the papers do."
    more = " --config.data.path=FOLDER and its like evaluate a run on other data."
    evaluate = commands.add_parser("evaluate", help=text, description=text + more)
    add_options(evaluate)
    evaluate.add_argument(
        "--step", type=_step, help='of the checkpoint, or "best"; the newest whole one'
    )
    evaluate.set_defaults(command=_evaluate)

    sample = add("sample", _sample, "Makes pictures from noise, or paths between them.")
    sample.add_argument("--num", type=int, default=16, help="of pictures, or of paths")
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--output", type=Path, help="folder for the pictures")
    sample.add_argument("--grid", type=Path, help="file for all of them side by side")
    sample.add_argument("--heatmaps", action="store_true", help="also write OUTPUT/heatmaps/FUSE")
    sample.add_argument(
        "--attention-grid", type=Path, help="file for pictures beside each fuse's attention"
    )
    sample.add_argument("--interpolate", type=int, metavar="STEPS", help="pictures a path")
    sample.add_argument("--truncation", type=float, help="largest number in the noise")
    sample.add_argument("--live", action="store_true", help="not the generator's moving average")
    sample.add_argument("--step", type=_step, help="as for translate")

    imported = add("import", _import, "Makes a run from a checkpoint of the authors' PyTorch code.")
    imported.add_argument("system", help="whose, such as ugatit or cyclegan")
    imported.add_argument(
        "files",
        nargs="+",
        help=".pt of all networks, or one a network: NAME=FILE or *_net_NAME.pth",
    )

    report = add("report", _report, "Writes a page with the curves and pictures of a run.")
    report.add_argument("--output", type=Path, help="folder for it; WORKDIR/report")
    report.add_argument(
        "--pictures", type=int, default=6, help="grids of each kind, spread over the run"
    )

    table = add("table", _table, "Prints a paper's table beside what runs have measured.")
    table.add_argument("table", metavar="TABLE", help="such as ugatit-1, spap-1 or guidance-1")
    table.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the workdirs")

    export = add("export", _export, "Writes a generator as StableHLO with its weights.")
    export.add_argument("--output", type=Path, required=True)
    export.add_argument("--direction", default="a2b")
    export.add_argument("--step", type=_step, help="as for translate")
    return parser


def _step(text: str) -> "int | Literal['best']":
    if text != "best" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f'{text!r} is no step: give a number or "best"')
    return "best" if text == "best" else int(text)


def _train(options: argparse.Namespace, overrides: list[str]) -> int | None:
    config = _resolve(options.config, overrides, options.workdir)
    if options.dry_run:
        from ganattn.training.loop import describe

        print(describe(config))
        return None
    from ganattn.cluster import launcher

    return launcher.run(options, config)


def _translate(options: argparse.Namespace, _: list[str]) -> None:
    from ganattn.data.images import find_pictures
    from ganattn.figures import save_picture
    from ganattn.inference.sampler import Sampler
    from ganattn.inference.synthesizer import Synthesizer, from_workdir

    single = options.input.is_file()
    names = [Path(options.input.name)] if single else find_pictures(options.input)
    root = options.input.parent if single else options.input
    model = from_workdir(options.workdir, options.step)
    if isinstance(model, Sampler):
        raise ConfigError(f"{options.workdir} takes no pictures: use ganattn sample")
    if not isinstance(model, Synthesizer) and (options.instances or options.style):
        raise ConfigError("--instances and --style are for runs that take label maps")
    for start in range(0, len(names), 8):
        part = names[start : start + 8]
        sources = [root / name for name in part]
        if isinstance(model, Synthesizer):
            instances = _namesakes(options.instances, sources)
            made: Any = model(sources, instances, styles=options.style, seed=options.seed)
        else:
            made = model(sources, options.direction)
        for i, name in enumerate(part):
            save_picture(options.output / name, made.images[i])
            if options.heatmaps and made.heatmaps is not None:
                save_picture(options.output / "heatmaps" / name, made.heatmaps[i])
    print(f"{len(names)} pictures in {options.output}")


def _evaluate(options: argparse.Namespace, overrides: list[str]) -> None:
    from ganattn.evaluation import command

    if overrides and options.workdir is None:
        raise ConfigError(f"{overrides[0]} is of a run's config: give --workdir")
    command.run(options, _resolve(None, overrides, options.workdir) if overrides else None)


def _sample(options: argparse.Namespace, _: list[str]) -> None:
    from ganattn.figures import save_grid, save_picture
    from ganattn.inference.sampler import Sampler

    files = options.output, options.grid, options.attention_grid
    if not any(files):
        raise ConfigError("nothing to write: give --output, --grid or --attention-grid")
    if options.heatmaps and not options.output:
        raise ConfigError("--heatmaps are written into a folder: give --output")
    model = Sampler.from_workdir(options.workdir, options.step, average=not options.live)
    if options.interpolate is None:
        made = model(options.num, options.seed, options.truncation)
    else:
        made = model.interpolate(options.num, options.interpolate, options.seed, options.truncation)
    if not made.attentions and (options.heatmaps or options.attention_grid):
        raise ConfigError(f"the generator of {options.workdir} has no attention to draw")
    if options.output:
        digits = max(4, len(str(len(made.images) - 1)))
        heatmaps = made.heatmaps if options.heatmaps else {}
        for i, image in enumerate(made.images):
            save_picture(options.output / f"{i:0{digits}d}.png", image)
            for name, maps in heatmaps.items():
                save_picture(options.output / "heatmaps" / name / f"{i:0{digits}d}.png", maps[i])
    if options.grid:
        save_picture(options.grid, made.mosaic())
    if options.attention_grid:
        save_grid(options.attention_grid, made.columns())
    print(f"{len(made.images)} pictures in {', '.join(str(file) for file in files if file)}")


def _namesakes(instances: Path | None, labels: Sequence[Path]) -> list[Path] | None:
    """The instance maps that go with label maps: one file, or namesakes in a folder."""
    if instances is None or instances.is_file():
        return None if instances is None else [instances]
    return [instances / label.name for label in labels]


def _import(options: argparse.Namespace, _: list[str]) -> None:
    import jax

    from ganattn import methods
    from ganattn.inference.translator import read_authors
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
    print(f"{', '.join(sorted(variables))} are in {options.workdir}, as step 0 of a run")


def _export(options: argparse.Namespace, _: list[str]) -> None:
    from ganattn.inference.export import export_translator
    from ganattn.inference.translator import Translator

    translator = Translator.from_workdir(options.workdir, options.step)
    if translator.method.takes != "pictures":
        takes = {"labels": "label maps", "latents": "noise"}[translator.method.takes]
        raise ConfigError(f"{options.workdir} takes {takes}: export writes picture translators")
    method, size = translator.method, cast(int, translator.size)
    if options.direction not in method.directions:
        raise ConfigError(
            f"--direction is {options.direction}: use one of {', '.join(method.directions)}"
        )
    export_translator(method, translator.variables, size, options.output, options.direction)
    print(f"{options.output}: pictures (b, {size}, {size}, 3) in [-1, 1], any batch b")


def _report(options: argparse.Namespace, _: list[str]) -> None:
    from ganattn.report import write_report

    print(write_report(options.workdir, options.output, options.pictures))


def _table(options: argparse.Namespace, _: list[str]) -> None:
    from ganattn.report.comparison import compare
    from ganattn.report.tables import read_table

    print(compare(read_table(options.table), options.runs))


def _folder(text: str) -> Path:
    """A local folder, or one in a bucket such as gs://name/run."""
    return cast(Path, epath.Path(text)) if "://" in text else Path(text)


def _resolve(config: str | None, overrides: list[str], workdir: Path) -> ConfigDict:
    """The config file with its overrides, or the run's stored one when no file is named."""
    if config is None:
        stored = workdir / "config.json"
        if not stored.exists():
            raise ConfigError(f"no run in {workdir} to resume: name a config with --config")
        base = configuration.from_dict(json.loads(stored.read_text(encoding="utf-8")))
    else:
        path, _, variant = config.partition(":")
        base = configuration.load(configuration.find(path), variant)
    for override in overrides:
        _require_field(base, override)
    values, arguments = flags.FlagValues(), ["ganattn", *overrides]
    config_flags.DEFINE_config_dict("config", base, flag_values=values, sys_argv=arguments)
    try:
        left = values(arguments)[1:]
    except (flags.Error, TypeError, ValueError, AttributeError, KeyError) as error:
        raise ConfigError(f"config override refused: {str(error).splitlines()[0]}") from error
    if left:
        raise ConfigError(f"unknown arguments {' '.join(left)}: write --config.FIELD=VALUE")
    return values.config.lock()


def _require_field(config: ConfigDict, override: str) -> None:
    name = override.split("=")[0].lstrip("-")
    if not override.startswith("--config."):
        raise ConfigError(f"unknown argument {override}: write --config.FIELD=VALUE")
    node, path = config, name.split(".")[1:]
    for i, part in enumerate(path):
        if not isinstance(node, ConfigDict) or part not in node:
            known = list(node) if isinstance(node, ConfigDict) else []
            close = difflib.get_close_matches(part, known, 1)
            where = ".".join(["config", *path[:i]])
            hint = (
                f"did you mean {where}.{close[0]}?" if close else f"use one of {', '.join(known)}"
            )
            raise ConfigError(f"{where} has no field {part!r}: {hint}")
        node = node[part]


def _prepare_logging() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("ganattn").setLevel(logging.INFO)


def _prepare_environment() -> None:
    """Keeps compiled steps between runs, which makes starts short; hushes TensorFlow."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.fspath(home / "ganattn" / "xla"))


if __name__ == "__main__":
    run()
