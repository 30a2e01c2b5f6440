"""What a run has written: curves of truncated files, grids in order, speed over restarts."""

import json

import numpy as np
import pytest

from ganattn.config import find, load, to_dict
from ganattn.errors import DataError
from ganattn.runs.logs import Curve, Run, smooth


@pytest.fixture
def run(tmp_path):
    config = to_dict(load(find("ugatit"), "tiny"))
    (tmp_path / "config.json").write_text(json.dumps(config))
    return Run(tmp_path)


def test_curves_survive_cut_lines_and_names_that_come_later(run):
    path = run.workdir / "metrics.jsonl"
    lines = [
        '{"step": 1, "g/total": 2, "deep": {"rho": {"mean": 0.5}}}',
        '["no object"]',
        '{"g/total": 9}',
        '{"step": 3, "g/total": 4.5, "d/total": -1, "note": "text", "flag": true}',
        '{"step": 5, "g/tot',
    ]
    path.write_text("\n".join(lines))
    found = run.metrics
    assert {name: [c.tolist() for c in curve] for name, curve in found.items()} == {
        "g/total": [[1, 3], [2.0, 4.5]],
        "deep/rho/mean": [[1], [0.5]],
        "d/total": [[3], [-1.0]],
    }


def test_a_record_finds_config_numbers_and_grids(run):
    assert run.config == load(find("ugatit"), "tiny")
    assert (run.metrics, run.evaluation, run.rho, run.grids) == ({}, {}, {}, {})
    assert run.speed.values.size == 0
    (run.workdir / "pictures").mkdir()
    run = Run(run.workdir)  # files are read once
    for name in ("a2b_0000020", "a2b_10000000", "a2b_9999999", "b2a_0000020", "mine"):
        (run.workdir / "pictures" / f"{name}.png").touch()
    assert {name: list(files) for name, files in run.grids.items()} == {
        "a2b": [20, 9_999_999, 10_000_000],
        "b2a": [20],
    }
    (run.workdir / "result_a2b.png").touch()
    assert list(Run(run.workdir).grids) == ["a2b", "b2a"]
    assert list(run.final_grids) == ["result_a2b"]
    assert run.grids["b2a"][20].name == "b2a_0000020.png"


def test_speed_leaves_out_what_is_no_progress_in_time(run):
    seconds = {10: 5.0, 20: 7.0, 30: 7.0, 40: 17.0}
    lines = [json.dumps({"step": step, "seconds": value}) for step, value in seconds.items()]
    (run.workdir / "metrics.jsonl").write_text("\n".join(lines))
    assert [part.tolist() for part in run.speed] == [[20, 40], [5.0, 1.0]]


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no run in .*: give the workdir"):
        _ = Run(tmp_path).config


@pytest.mark.parametrize("window", [1, 2, 5, 99])
def test_smooth_is_the_mean_of_the_last_points(window):
    values = np.random.default_rng(0).normal(size=9)
    found = smooth(Curve(np.arange(9), values), window)
    expected = [values[max(0, i - window + 1) : i + 1].mean() for i in range(9)]
    np.testing.assert_allclose(found.values, expected)
    np.testing.assert_array_equal(found.steps, np.arange(9))


def test_smooth_refuses_no_window():
    with pytest.raises(ValueError, match="give at least 1"):
        smooth(Curve(np.arange(2), np.ones(2)), 0)


def test_evaluation_is_a_curve_for_each_direction_and_convention(run):
    results = [
        {"step": step, "metric": "kid", "direction": "a2b", "value": value, "convention": "tf"}
        for step, value in ((2, 0.5), (4, None), (6, 0.25), (6, 0.125))
    ]
    lines = [*map(json.dumps, results), '{"step": 8, "metr']
    (run.workdir / "evaluation.jsonl").write_text("\n".join(lines))
    curves = {name: [part.tolist() for part in curve] for name, curve in run.evaluation.items()}
    assert curves == {"kid/a2b (tf)": [[2, 6], [0.5, 0.125]]}


def test_scores_of_version_0_1_are_still_shown(run):
    (run.workdir / "scores.jsonl").write_text('{"step": 2, "mask_l1": 0.5}\n')
    assert [part.tolist() for part in run.evaluation["mask_l1"]] == [[2], [0.5]]
