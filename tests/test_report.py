"""The report page: what is in the logs is in the page, and a browser shows it without network."""

import base64
import html.parser
import io
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ganattn import cli
from ganattn.report import charts, page, write_report
from ganattn.runs.logs import Curve, Run

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
COLOURS = {"a2b": (250, 10, 130), "b2a": (20, 200, 90)}  # no chart has them
NAME = 'run <b>&"'


def write_lines(path, lines, end=""):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + end)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run as a killed process leaves it: half a line, half an image."""
    folder = tmp_path_factory.mktemp("report") / NAME
    (folder / "pictures").mkdir(parents=True)
    steps = range(10, 810, 10)
    losses = [
        {"step": s, "generator/total": 100 / s, "generator/cycle": 1.0, "seconds": s / 4}
        for s in steps
    ]
    write_lines(folder / "metrics.jsonl", losses, '{"step": 810, "gener')
    rho = [{"step": s, "generator/up/rho": {"mean": 0.5, "min": 0, "max": 1}} for s in (10, 20)]
    write_lines(folder / "rho.jsonl", rho)
    results = [
        {
            "step": step, "direction": direction, "metric": "kid", "value": value, "std": 0.01,
            "convention": "<tf>", "features": "test", "samples": [120, 140],
        }
        for step, direction, value in (
            (10, "a2b", 0.3), (10, "b2a", None), (20, "a2b", 0.2), (20, "b2a", 0.1),
        )
    ]  # fmt: skip
    results += [{"step": s, "metric": "l1", "value": v} for s, v in ((10, 0.5), (20, 0.25))]
    write_lines(folder / "evaluation.jsonl", [*results, {"step": 3}], "[")
    for kind, colour in COLOURS.items():
        for step in (10, 20, 30):
            picture = Image.new("RGB", (90, 60 + step), colour)
            picture.save(folder / "pictures" / f"{kind}_{step:07d}.png")
    (folder / "pictures" / "a2b_0000040.png").write_bytes(b"\x89PNG\r\n\x1a\n half")
    config = {"method": {"name": "toy"}, "optimizer": {"total_steps": 1000}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def report(workdir):
    return write_report(workdir)


class Sources(html.parser.HTMLParser):
    """The tags, text and images of the page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.images, self.text = set(), [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            assert name not in ("href", "srcset", "onload", "onerror")
            if name == "src":
                kind, _, encoded = value.partition(",")
                assert (tag, kind) == ("img", "data:image/png;base64")
                self.images.append(base64.b64decode(encoded, validate=True))

    def handle_data(self, data):
        self.text += data


def test_the_page_holds_charts_pictures_results_and_config(workdir, report):
    found = Sources(report.read_text())
    assert found.tags.isdisjoint({"script", "link", "iframe", "b"})
    assert {path.name for path in report.parent.iterdir()} == {
        "index.html", "losses.png", "metrics.png", "rho.png", "kid.png",
    }  # fmt: skip
    drawn = [(report.parent / f"{name}.png").read_bytes() for name in page.TITLES]
    grids = [
        (workdir / "pictures" / f"{kind}_{step:07d}.png").read_bytes()
        for kind in COLOURS
        for step in (30, 20, 10)
    ]
    assert found.images == drawn + grids
    assert f"{NAME}: toy" in found.text and "step 800 of 1,000" in found.text
    assert "<tf>" in found.text and "[120, 140]" in found.text and '"name": "toy"' in found.text


def test_curves_are_the_logged_numbers(workdir):
    run = Run(workdir)
    losses = charts.losses(run)
    assert {k: list(v) for k, v in losses.items()} == {"generator": ["total", "cycle"]}
    steps, values = losses["generator"]["total"]
    np.testing.assert_array_equal(steps, np.arange(10, 810, 10))
    np.testing.assert_allclose(values * steps, 100)
    metrics = charts.metrics(run)
    assert set(metrics) == {"kid", "l1"}
    assert [list(x) for x in metrics["kid"]["a2b (<tf>, test)"]] == [[10, 20], [0.3, 0.2]]
    assert [list(x) for x in metrics["kid"]["b2a (<tf>, test)"]] == [[20], [0.1]]
    assert [list(x) for x in metrics["l1"]["l1"]] == [[10, 20], [0.5, 0.25]]


def test_long_curves_keep_their_mean_and_noise_averages_out():
    values = np.random.default_rng(0).normal(3.0, 1.0, 50_000)
    steps, thinned = charts.thin(Curve(np.arange(50_000), values))
    assert len(steps) == charts.POINTS and thinned.mean() == pytest.approx(values.mean())
    smooth = charts.running_mean(values[:1_000])
    assert smooth[0] == values[0] and np.abs(smooth[200:] - 3).max() < 0.6
    np.testing.assert_allclose(charts.running_mean(np.full(90, 7.0)), 7.0)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_pictures_are_spread_and_end_with_the_newest(count):
    chosen = page.spread(list(range(5, 500, 5)), count)
    assert len(chosen) == count and chosen[-1] == 495 and chosen == sorted(chosen)
    assert count == 1 or chosen[0] == 5


def browse(page, folder, *options):
    """Chromium's stdout; no host name resolves, so nothing can come from the network."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed: the page is opened in none")
    quiet = (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run",
        "disable-background-networking", "disable-component-update", "disable-sync",
        "host-resolver-rules=MAP * ~NOTFOUND", "window-size=1250,4000",
        f"user-data-dir={folder / 'profile'}",
    )  # fmt: skip
    command = [browser, *(f"--{option}" for option in (*quiet, *options)), page.as_uri()]
    return subprocess.run(command, capture_output=True, check=True, timeout=120, text=True).stdout


def test_a_browser_shows_every_picture(report, tmp_path):
    """In a copy whose policy lets a script look, every picture has the size of its file."""
    script = """<script>onload = () => { document.body.textContent = JSON.stringify(
        [...document.images].map(i => [i.complete, i.naturalWidth, i.naturalHeight])) }</script>"""
    policy = re.compile(r"<meta http-equiv=[^>]*>")
    text, count = policy.subn("", report.read_text())
    assert count == 1
    (tmp_path / "copy.html").write_text(text.replace("</body>", script + "</body>"))
    shown = json.loads(Sources(browse(tmp_path / "copy.html", tmp_path, "dump-dom")).text.strip()
                       .splitlines()[-1])  # fmt: skip
    sizes = [Image.open(io.BytesIO(png)).size for png in Sources(report.read_text()).images]
    assert shown == [[True, *size] for size in sizes]


def test_the_page_as_it_is_shows_its_pictures(report, tmp_path):
    """Under its own policy: the newest picture of each kind, pixel by pixel."""
    browse(report, tmp_path, f"screenshot={tmp_path / 'page.png'}", "hide-scrollbars")
    with Image.open(tmp_path / "page.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    for colour in COLOURS.values():
        assert (pixels == colour).all(-1).sum() == 90 * (60 + 30)
    grey_levels = pixels[..., 0] == pixels[..., 1]
    assert (~grey_levels).sum() > 20_000  # the charts' curves and bars, too


def empty(folder):
    folder.mkdir()


def broken(folder):
    folder.mkdir()
    write_lines(folder / "metrics.jsonl", [{"step": 1, "loss": 0.5}])
    (folder / "config.json").write_text('{"method"')


def good(folder):
    folder.mkdir()
    write_lines(folder / "metrics.jsonl", [{"step": 1, "loss": 0.5}])


BAD = {
    "no folder": (lambda folder: None, (), "no logs of a run in"),
    "empty": (empty, (), "no logs of a run in"),
    "broken config": (broken, (), "config.json is not JSON"),
    "no pictures": (good, ("--grids", "0"), "show at least 1"),
    "matplotlib": (good, (), "pip install 'ganattn[report]'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_no_files(tmp_path, monkeypatch, capsys, case):
    prepare, options, message = BAD[case]
    prepare(tmp_path / "run")
    if case == "matplotlib":
        monkeypatch.setitem(sys.modules, "matplotlib", None)
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["report", "--workdir", str(tmp_path / "run"), *options]) == 2
    err = capsys.readouterr().err
    assert err.startswith("ganattn: ") and err.count("\n") == 1 and message in err
    assert sorted(tmp_path.rglob("*")) == before
