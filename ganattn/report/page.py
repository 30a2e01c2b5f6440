"""The page: HTML that contains its style and images, without scripts or external resources."""

import base64
import html
import io
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from ganattn.data.images import read_rgb
from ganattn.errors import DataError
from ganattn.runs.logs import Run
from ganattn.runs.results import QUALIFIERS, Result, name

_log = logging.getLogger(__name__)
TITLES = {
    "losses": "Losses",
    "metrics": "Metrics",
    "rho": "Rho: how much instance normalization each layer uses",
    "kid": "Kernel inception distance",
}
# The policy allows nothing from outside the page.
FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1180px; margin: 2rem auto;
 padding: 0 1rem; color: #222; }}
h1 {{ font-size: 1.5rem; margin-bottom: 0; }}
h2 {{ font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }}
img {{ max-width: 100%; height: auto; }}
figure {{ margin: 0 0 1.2rem; }}
figcaption, .quiet {{ color: #666; font-size: 0.9rem; }}
table {{ border-collapse: collapse; font-size: 0.9rem; }}
th, td {{ text-align: left; padding: 0.15rem 0.9rem 0.15rem 0; border-bottom: 1px solid #eee;
 vertical-align: top; }}
td.number {{ font-variant-numeric: tabular-nums; }}
pre {{ font-size: 0.8rem; overflow-x: auto; background: #f7f7f7; padding: 0.8rem; }}
summary {{ cursor: pointer; color: #246; margin: 0.4rem 0; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def render(run: Run, charts: Mapping[str, bytes], grids: int) -> str:
    """The complete page as text. charts: name -> PNG. grids: number of grids of each kind."""
    title = f"{run.workdir.name}: {run.fields.get('method', {}).get('name', 'a run')}"
    parts = [f"<h1>{html.escape(title)}</h1>", _summary(run)]
    for chart, png in charts.items():
        parts += [_heading(TITLES[chart]), _image(png, TITLES[chart])]
    parts += [_results(run), *_grids(run, grids), *_details(run)]
    return FRAME.format(title=html.escape(title), body="\n".join(filter(None, parts)))


def _summary(run: Run) -> str:
    facts = []
    if run.metrics:
        step = max(int(curve.steps[-1]) for curve in run.metrics.values())
        facts.append(f"step {step:,} of {run.total:,}" if run.total else f"step {step:,}")
        if "seconds" in run.metrics:
            seconds = run.metrics["seconds"].values[-1]
            facts.append(f"{_duration(seconds)}, {step / seconds:.3g} steps a second")
    if run.versions:
        devices = f"{run.versions.get('devices', '?')} x {run.versions.get('device', '?')}"
        packages = run.versions.get("packages", {})
        facts.append(f"{devices}, ganattn {packages.get('ganattn', '?')}")
    if run.best is not None:
        fields = run.fields.get("evaluation", {})
        by = f" by {fields['best']}" if fields.get("best") else ""
        facts.append(f"best checkpoint: step {run.best:,}{by}")
    return f'<p class="quiet">{html.escape(" · ".join(facts))}</p>' if facts else ""


def _duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    return f"{hours:.1f} hours" if hours >= 1 else f"{minutes:.1f} minutes"


def _results(run: Run) -> str:
    """The newest of each result, with everything that qualifies it."""
    newest = {name(result): _noted(result) for result in run.results}
    columns = ("metric", "direction", "value", "std", "step", "samples", *QUALIFIERS, "note")
    shown = [c for c in columns if any(r.get(c) is not None for r in newest.values())]
    if not shown:
        return ""
    head = "".join(f"<th>{column}</th>" for column in shown)
    rows = "".join(
        "<tr>" + "".join(_cell(result.get(column)) for column in shown) + "</tr>\n"
        for result in newest.values()
    )
    return f"{_heading('Newest results')}\n<table><tr>{head}</tr>\n{rows}</table>"


def _noted(result: Result) -> Result:
    if result.get("features") and result.get("comparable") is False:
        return {**result, "note": "not comparable with published numbers"}
    return result


def _cell(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = f"{value:,}" if isinstance(value, int) else f"{value:.5g}"
        return f'<td class="number">{text}</td>'
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value)
    return f"<td>{html.escape(text)}</td>"


def _grids(run: Run, count: int) -> list[str]:
    parts = []
    final = {kind: {0: path} for kind, path in run.final_grids.items()}
    for kind, by_step in {**run.grids, **final}.items():
        figures = []
        for step in sorted(spread(sorted(by_step), count), reverse=True):
            if (png := _intact(by_step[step])) is not None:
                caption = f"{kind}, step {step:,}" if step else kind
                figures.append(
                    f"<figure>{_image(png, caption)}<figcaption>"
                    f"{html.escape(caption)}</figcaption></figure>"
                )
        if not figures:
            continue
        newest, *earlier = figures
        parts += [_heading(f"Images: {kind}"), newest]
        if earlier:
            summary = f"<summary>{len(earlier)} earlier of {len(by_step)} in all</summary>"
            parts.append("\n".join(["<details>", summary, *earlier, "</details>"]))
    return parts


def spread(steps: Sequence[int], count: int) -> list[int]:
    """At most `count` of ascending steps, evenly over the list and including the last one."""
    if len(steps) <= count:
        return list(steps)
    last = len(steps) - 1
    return sorted({steps[last - round(i * last / max(count - 1, 1))] for i in range(count)})


def _intact(path: Path) -> bytes | None:
    """The content of a PNG file, or None with a warning for one that is corrupt or missing."""
    try:
        content = path.read_bytes()
        read_rgb(io.BytesIO(content))
        return content
    except (OSError, DataError) as error:
        _log.warning("skipping %s: %s", path, error)
        return None


def _details(run: Run) -> list[str]:
    parts = []
    texts = {
        "Config": json.dumps(run.fields, indent=2) if run.fields else "",
        "Parameters": run.parameters,
        "Versions": json.dumps(run.versions, indent=2) if run.versions else "",
    }
    for title, text in texts.items():
        if text:
            opened = " open" if title == "Config" else ""
            summary = f"<summary>{title}</summary>"
            parts.append(f"<details{opened}>{summary}<pre>{html.escape(text)}</pre></details>")
    return [_heading("The run"), *parts] if parts else []


def _heading(text: str) -> str:
    return f"<h2>{html.escape(text)}</h2>"


def _image(png: bytes, alt: str) -> str:
    encoded = base64.b64encode(png).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{encoded}">'
