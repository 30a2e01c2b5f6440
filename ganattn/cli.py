"""The command line: `ganattn COMMAND`, see `ganattn --help`.

Exit codes: 0 finished, or preempted and saved; 2 a user error, explained in one line; 3 a training
process died, named in one line.
"""

import argparse
import difflib
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from ganattn import config as configuration
from ganattn.cluster import commands as cluster
from ganattn.errors import ConfigError, explain, silence_storage_tracebacks
from ganattn.evaluation.options import add_options as add_evaluate
from ganattn.inference import commands as inference
from ganattn.report import commands as reports

DESCRIPTION = "Train, apply and evaluate attention-guided GANs in JAX."


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    _prepare_logging()
    parser = _parser()
    options, overrides = parser.parse_known_args(arguments)
    options.arguments = list(sys.argv[1:] if arguments is None else arguments)
    options.overrides = overrides
    if overrides and options.command not in ("train", "evaluate", "import"):
        parser.error(f"unknown arguments: {' '.join(overrides)}")
    _prepare_environment()
    try:
        return options.run(options) or 0
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
    if code:  # background threads that wait for a failed operation would delay the exit for minutes
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("ganattn", description=DESCRIPTION)
    commands = parser.add_subparsers(title="commands", required=True, dest="command")

    def add(name: str, add_options: Callable, run: Callable, text: str, more: str = "") -> None:
        sub = commands.add_parser(name, help=text, description=text + more)
        add_options(sub)
        sub.set_defaults(run=run)

    text = "Train from a config, resume a run, or start one with the networks of another."
    add("train", cluster.add_train, _train, text)
    text = "Translate an image or a label map, or a folder of them."
    add("translate", inference.add_translate, inference.translate, text)
    text = "Generate images from noise, or interpolate between them."
    add("sample", inference.add_sample, inference.sample, text)
    text = "Evaluate the test images of a run, or images of any origin, with the papers' metrics."
    more = " --config.data.path=FOLDER and other --config.data overrides select other data."
    add("evaluate", add_evaluate, _evaluate, text, more)
    text = "Write an HTML page with the curves and images of a run."
    add("report", reports.add_report, reports.report, text)
    text = "Print a table of a paper beside the results of runs."
    add("table", reports.add_table, reports.table, text)
    text = "Create a run from a checkpoint of the authors' code."
    more = " --config.method.FIELD=VALUE answers what a file does not show."
    add("import", inference.add_import, _import, text, more)
    text = "Export a generator as StableHLO, or all networks as the authors' code saves them."
    add("export", inference.add_export, inference.export, text)
    return parser


def _train(options: argparse.Namespace) -> int | None:
    folder = options.workdir
    if options.source is not None and not (folder / "config.json").exists():
        folder = options.source
    return cluster.train(options, _resolve(options.config, options.overrides, folder))


def _import(options: argparse.Namespace) -> None:
    config = _resolve(inference.import_config(options), options.overrides, options.workdir)
    inference.import_authors(options, config)


def _evaluate(options: argparse.Namespace) -> None:
    from ganattn.evaluation import command

    overrides, config = options.overrides, None
    if overrides and options.workdir is None:
        raise ConfigError(f"{overrides[0]} belongs to a run's config: give --workdir")
    if overrides:
        config = _resolve(None, overrides, options.workdir)
    command.run(options, config)


def _resolve(config: str | None, overrides: list[str], workdir: Path) -> ConfigDict:
    """The config file with its overrides, or the run's stored one when no file is named."""
    if config is None:
        stored = workdir / "config.json"
        if not stored.exists():
            raise ConfigError(
                f"no run in {workdir} to resume or to start from: name a config with --config"
            )
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
        known = list(node) if isinstance(node, ConfigDict) else []
        if part not in known:
            close = difflib.get_close_matches(part, known, 1)
            where = ".".join(["config", *path[:i]])
            hint = f"use one of {', '.join(known)}"
            if close:
                hint = f"did you mean {where}.{close[0]}?"
            raise ConfigError(f"{where} has no field {part!r}: {hint}")
        node = node[part]


def _prepare_logging() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("ganattn").setLevel(logging.INFO)


def _prepare_environment() -> None:
    """Caches compiled programs between runs, and silences TensorFlow's messages."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.fspath(home / "ganattn" / "xla"))


if __name__ == "__main__":
    run()
