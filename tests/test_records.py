"""What a run wrote, read back: curves of cut files, grids in order, speed over restarts."""

import json

import numpy as np
import pytest

from ganattn.config import find, load, to_dict
from ganattn.errors import DataError
from ganattn.runs.records import Curve, Record, smooth


@pytest.fixture
def record(tmp_path):
    config = to_dict(load(find("ugatit"), "tiny"))
    (tmp_path / "config.json").write_text(json.dumps(config))
    return Record(tmp_path)


def test_curves_survive_cut_lines_and_names_that_come_later(record):
    path = record.workdir / "metrics.jsonl"
    lines = [
        '{"step": 1, "g/total": 2, "deep": {"rho": {"mean": 0.5}}}',
        '["no object"]',
        '{"g/total": 9}',
        '{"step": 3, "g/total": 4.5, "d/total": -1, "note": "text", "flag": true}',
        '{"step": 5, "g/tot',
    ]
    path.write_text("\n".join(lines))
    found = record.metrics
    assert {name: [c.tolist() for c in curve] for name, curve in found.items()} == {
        "g/total": [[1, 3], [2.0, 4.5]],
        "deep/rho/mean": [[1], [0.5]],
        "d/total": [[3], [-1.0]],
    }


def test_a_record_finds_config_numbers_and_grids(record):
    assert record.config == load(find("ugatit"), "tiny")
    assert (record.metrics, record.scores, record.rho, record.grids) == ({}, {}, {}, {})
    assert record.speed.values.size == 0
    (record.workdir / "pictures").mkdir()
    for name in ("a2b_0000020", "a2b_10000000", "a2b_9999999", "b2a_0000020", "mine"):
        (record.workdir / "pictures" / f"{name}.png").touch()
    assert {name: list(files) for name, files in record.grids.items()} == {
        "a2b": [20, 9_999_999, 10_000_000],
        "b2a": [20],
    }
    (record.workdir / "result_a2b.png").touch()
    assert list(record.grids) == ["a2b", "b2a"]
    assert record.grids["b2a"][20].name == "b2a_0000020.png"


def test_speed_leaves_out_what_is_no_progress_in_time(record):
    seconds = {10: 5.0, 20: 7.0, 30: 7.0, 40: 17.0}
    lines = [json.dumps({"step": step, "seconds": value}) for step, value in seconds.items()]
    (record.workdir / "metrics.jsonl").write_text("\n".join(lines))
    assert [part.tolist() for part in record.speed] == [[20, 40], [5.0, 1.0]]


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no run in .*: give the workdir"):
        Record(tmp_path)


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
