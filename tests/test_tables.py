"""The papers' tables: complete, and beside them only results of runs of exactly that row."""

import argparse
import dataclasses
import json
import math

import pytest

from ganattn import cli
from ganattn import config as configuration
from ganattn.evaluation.metrics import METRICS
from ganattn.evaluation.options import add_options
from ganattn.report import comparison as text
from ganattn.report import matching as runs
from ganattn.report.tables import Column, Table, TableRow, names, read_table
from ganattn.runs.logs import Run
from ganattn.runs.results import append_results, read_results

KID = {
    "metric": "mean_kid",
    "direction": "a2b",
    "features": "inception 6726825d",
    "weights": [0.5, 0.5],
    "estimator": "blocks of 10, standard error",
    "step": 1_000_000,
}


def make_run(folder, expression, results=(), step=0, **overrides):
    """A workdir as a training with this config leaves it."""
    name, _, variant = expression.partition(":")
    config = json.loads(
        json.dumps(configuration.to_dict(configuration.load(configuration.find(name), variant)))
    )
    for field, value in overrides.items():
        section, _, key = field.partition("__")
        config[section][key] = value
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    lines = "".join(json.dumps(result) + "\n" for result in results)
    (folder / "evaluation.jsonl").write_text(lines)
    if step:
        (folder / "checkpoints" / str(step)).mkdir(parents=True)
    return folder


def cells(printed, row):
    """The cells of the first line of a row."""
    line = next(line for line in printed.splitlines() if line.startswith(f"| {row} "))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def commands(printed):
    return [line for line in printed.splitlines() if line.startswith("ganattn ")]


@pytest.mark.parametrize("name", names())
def test_tables_are_complete(name):
    table, parser = read_table(name), argparse.ArgumentParser()
    add_options(parser)
    for row in table.rows:
        assert len(row.cells) == len(table.columns)
        numbers = " ".join(row.cells).replace("±", " ").replace("M", "").split()
        assert numbers and all(float(number) > 0 for number in numbers)
    for column in table.columns:
        assert column.statistic in text.STATISTICS and column.direction in ("", "a2b", "b2a")
        if column.metric:
            asked = parser.parse_args(column.evaluate.split()).metrics.split(",")
            truth = ("mask_l1", "background_l1", "attention_iou") if "truth" in asked else ()
            assert set(asked) <= set(METRICS) and column.metric.startswith((*asked, *truth))
    if any("sndcgan" in row.config for row in table.rows):
        pytest.importorskip("ganattn.methods.sndcgan", reason="SNDCGAN is not built yet")
    trainings = {r.training(c) for r in table.rows for c in table.columns} - {None}
    configs = [json.dumps(runs.wanted_config(t), sort_keys=True) for t in trainings]
    assert len(set(configs)) == len(trainings) > 0


def test_nothing_is_filled_in_without_runs(tmp_path):
    printed = text.compare(read_table("ugatit-1"), tmp_path / "none")
    assert cells(printed, "U-GAT-IT w/ IN") == ["13.64 ± 0.76", "-", "13.58 ± 0.8", "-"]
    assert len(commands(printed)) == 16
    assert commands(printed)[2:4] == [
        "ganattn train --config configs/ugatit.py:selfie2anime,tf,in "
        f"--workdir {tmp_path}/none/ugatit_selfie2anime_tf_in",
        f"ganattn evaluate --workdir {tmp_path}/none/ugatit_selfie2anime_tf_in "
        + read_table("ugatit-1").columns[0].evaluate,
    ]


def test_measured_values_are_those_of_the_rows_own_runs(tmp_path):
    full = [
        {**KID, "value": 0.2, "std": 0.01, "step": 500_000},
        {**KID, "value": 0.1234, "std": 0.0056, "convention": "tf", "samples": [100, 100]},
        {**KID, "value": 0.001, "features": "random-inception"},  # comparable to nothing
        {**KID, "value": 0.003, "weights": [0.01, 0.49]},
        {**KID, "value": 0.002, "metric": "kid"},
        {**KID, "value": None, "direction": "b2a"},
    ]
    make_run(
        tmp_path / "any name", "ugatit:selfie2anime,tf", full, 1_000_000, method__dtype="bfloat16"
    )
    early = [{**KID, "value": 0.3, "direction": "b2a", "step": 10_000}]
    make_run(tmp_path / "deep" / "er", "ugatit:selfie2anime,tf,in", early, 10_000)
    for seed, value in enumerate((0.11, 0.14)):
        make_run(tmp_path / f"ln{seed}", "ugatit:selfie2anime,tf,ln", [{**KID, "value": value}],
                 1_000_000, method__remat=True)  # fmt: skip
    make_run(tmp_path / "light", "ugatit:selfie2anime,tf,light", full, 1_000_000)
    make_run(tmp_path / "other data", "ugatit:horse2zebra,tf", full, 1_000_000)
    make_run(tmp_path / "quick", "ugatit:quickstart", full, 800)
    printed = text.compare(read_table("ugatit-1"), tmp_path)
    assert cells(printed, "U-GAT-IT") == ["11.61 ± 0.57", "12.34 ± 0.56", "11.52 ± 0.57", "-"]
    assert cells(printed, "U-GAT-IT w/ IN")[1::2] == ["-", "30.00 at step 10,000 of 1,000,000"]
    assert cells(printed, "U-GAT-IT w/ LN")[1] == "12.50 ± 2.12 (2 runs)"
    qualifiers = (
        "Measured with convention tf; features inception 6726825d; estimator blocks of 10, "
        "standard error; weights [0.5, 0.5]; samples [100, 100]."
    )
    assert printed.splitlines().count(qualifiers) == 1
    assert f"{tmp_path}/light is not ugatit:selfie2anime,tf: config.method.light is True" in printed
    assert "other data is" not in printed and "quick is" not in printed
    todo = commands(printed)
    assert f"ganattn evaluate --workdir '{tmp_path}/any name' --metrics" in todo[0]
    assert todo[1] == f"ganattn train --workdir {tmp_path}/deep/er"  # to be ended
    assert len(todo) == 2 * 8 - 1 - 1


def test_one_way_systems_are_trained_for_each_direction(tmp_path):
    table = read_table("spap-2")
    result = {"step": 595_000, "direction": "a2b"}
    for swap, value, metric in ((False, 0.5, "labels_class_iou"), (True, 0.25, "fcn_class_iou")):
        results = [{**result, "metric": metric, "value": value}]
        make_run(tmp_path / str(swap), "pix2pix:cityscapes", results, 595_000, data__swap=swap)
    printed = text.compare(table, tmp_path)
    assert cells(printed, "Pix2Pix") == ["0.71", "-", "0.25", "-", "0.18", "0.25"]
    assert cells(printed.partition("Photo to labels")[2], "Pix2Pix")[-1] == "0.50"
    printed = text.compare(table, tmp_path / "none")
    swapped = f"--workdir {tmp_path}/none/pix2pix_cityscapes_swapped"
    assert [c for c in commands(printed) if swapped in c] == [
        f"ganattn train --config configs/pix2pix.py:cityscapes {swapped} --config.data.swap=True",
        f"ganattn evaluate {swapped} {table.columns[0].evaluate} --direction a2b",
    ]


def test_stacked_systems_are_trained_one_after_the_other(tmp_path):
    table = read_table("spap-2")
    row = next(row for row in table.rows if row.name == "SCAN")
    table = dataclasses.replace(table, rows=[row])
    printed = commands(text.compare(table, tmp_path / "none"))
    first, second = (tmp_path / "none" / f"scan_cityscapes{stage}" for stage in ("", "_stage2"))
    start = f"ganattn train --config configs/scan.py:cityscapes --workdir {first}"
    stack = f"ganattn train --config configs/scan.py:cityscapes,stage2 --workdir {second} --from "
    assert printed[:2] == [start, f"{stack}{first}"]
    assert [f"ganattn evaluate --workdir {second}" in line for line in printed[2:]] == [True, True]
    make_run(tmp_path / "one", "scan:cityscapes", step=595_000)
    printed = text.compare(table, tmp_path)
    assert commands(printed)[0].endswith(f"{tmp_path}/scan_cityscapes_stage2 --from {tmp_path}/one")
    assert "/one is not" not in printed
    make_run(tmp_path / "two", "scan:cityscapes,stage2", step=5)
    assert commands(text.compare(table, tmp_path))[0] == f"ganattn train --workdir {tmp_path}/two"


def test_statistics_over_runs(tmp_path):
    found = []
    for value in (25.0, 21.0, 22.0):
        results = [{"metric": "fid", "step": 5, "value": value}]
        folder = make_run(tmp_path / str(value), "cyclegan:", results, optimizer__total_steps=5)
        found.append(Run(folder))
    row = TableRow("x", ["25.42", "26.11"], "x")
    columns = [Column(name=s, metric="fid", statistic=s) for s in ("lowest", "median")]
    table = Table("", "", columns, [row])
    printed = [text._value(table, row, c, {row.training(c): found}) for c in columns]
    assert printed == ["21.00 (3 runs)", "22.00 (3 runs)"]


@pytest.mark.parametrize(
    ("path", "name", "same"),
    [
        ("data/horse2zebra", "horse2zebra", True),
        ("cycle_gan/horse2zebra", "horse2zebra", True),
        ("/x/horse2zebra.npz", "horse2zebra", True),
        ("data/horse2zebra_small", "horse2zebra", False),
        ("celeb_a_hq/128", "celeb_a_hq/128", True),
        ("/data/CelebA-HQ-128", "celeb_a_hq/128", True),
        ("/data/faces/128", "celeb_a_hq/128", False),
        ("", "horse2zebra", False),
    ],
)
def test_data_sets_are_told_by_their_names(tmp_path, path, name, same):
    config = {"data": {"source": "folder", "path": path}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert runs.has_data(Run(tmp_path), name) == same


def test_broken_runs_are_skipped(tmp_path, caplog):
    make_run(tmp_path / "whole", "guidance:horse2zebra")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    (tmp_path / "whole" / "evaluation.jsonl").write_text('[1]\n{"step": "x"}\n{"step')
    printed = text.compare(read_table("guidance-1"), tmp_path)
    assert "Measured by 1 runs" in printed and "broken/config.json" in caplog.text
    assert caplog.text.count("not a result") == 3


def test_results_are_added_behind_half_a_line(tmp_path):
    append_results(tmp_path, [{"step": 1, "metric": "fid", "value": 2.0, "std": math.nan}])
    with (tmp_path / "evaluation.jsonl").open("a") as file:
        file.write('{"step": 2, "met')
    append_results(tmp_path, [{"step": 3, "metric": "fid", "value": math.inf}])
    assert [(r["step"], r["value"]) for r in read_results(tmp_path)] == [(1, 2.0), (3, None)]


def test_the_command_line(capsys, tmp_path):
    assert cli.main(["table", "guidance-1", "--runs", str(tmp_path)]) == 0
    assert "1.03 ± 0.35" in capsys.readouterr().out
    assert cli.main(["table", "guidance-2"]) == 2
    err = capsys.readouterr().err
    assert (
        err.count("\n") == 1
        and "no table 'guidance-2': use one of guidance-1, procedural, spap-1" in err
    )


def test_procedural_runs_are_means_over_directions_and_seeds(tmp_path):
    short = {"optimizer__total_steps": 400, "optimizer__decay_start_step": 200}
    for seed, (one, other) in enumerate(((0.1, 0.2), (0.2, 0.3))):
        results = [
            {"step": s, "metric": "mask_l1", "direction": d, "value": v}
            for s, d, v in ((200, "a2b", 9.0), (400, "a2b", one), (400, "b2a", other))
        ]
        make_run(tmp_path / str(seed), "ugatit:quickstart", results, 400, **short)
    make_run(tmp_path / "long", "ugatit:quickstart", results, 800)
    printed = text.compare(read_table("procedural"), tmp_path)
    assert cells(printed, "U-GAT-IT")[:2] == ["0.135", "0.200 ± 0.071 (2 runs)"]
    assert cells(printed, "U-GAT-IT without CAM")[-2:] == ["", ""]  # there is nothing to measure
    assert cells(printed, "CycleGAN")[1] == "-"
    assert f"{tmp_path}/long is not ugatit:quickstart: config.optimizer.total_steps" not in printed
    assert commands(printed)[0] == (
        "ganattn train --config configs/spap_cyclegan.py:vanilla,quickstart --workdir "
        f"{tmp_path}/spap_cyclegan_vanilla_quickstart --config.optimizer.total_steps=400 "
        "--config.optimizer.decay_start_step=200 --config.method.pyramid_start_step=200"
    )
