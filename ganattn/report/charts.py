"""The charts of a report as PNG files; matplotlib is imported here alone, and only when called."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ganattn.errors import ConfigError
from ganattn.runs.logs import Logs
from ganattn.runs.results import key, name

POINTS = 1_000  # that a curve is thinned to, by means
SMOOTHED_FROM = 60  # points from which a running mean is drawn over a faint curve
LOGARITHMIC_FROM = 30  # ratio of a panel's largest to its smallest value
PANEL = (5.2, 3.6)  # inches
COLUMNS = 2  # of panels

Curves = dict[str, tuple[np.ndarray, np.ndarray]]  # label -> steps, values


def draw(logs: Logs) -> dict[str, bytes]:
    """Chart name -> PNG: losses, metrics, rho, kid; only those that the logs have numbers for.

    Raises ConfigError without matplotlib.
    """
    _require_matplotlib()
    charts = {
        "losses": _panels(losses(logs)),
        "metrics": _panels(metrics(logs), best=logs.best),
        "rho": _rho(logs),
        "kid": _kid(logs),
    }
    return {name: png for name, png in charts.items() if png}


def _require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"ganattn report draws with matplotlib ({error}): pip install 'ganattn[report]'"
        ) from error


def losses(logs: Logs) -> dict[str, Curves]:
    """One panel a group of terms: "generator/cycle" is the curve cycle in the panel generator."""
    panels: dict[str, Curves] = {}
    for term in _names(logs.losses, leave_out=("step", "seconds")):
        group, _, label = term.partition("/")
        curve = _curve(logs.losses, term)
        panels.setdefault(group if label else "others", {})[label or term] = curve
    return panels


def metrics(logs: Logs) -> dict[str, Curves]:
    """One panel a metric and one curve a direction and convention; scores are means of both.

    A metric that was measured at one step only is no curve: the table of results has it.
    """
    panels: dict[str, Curves] = {}
    for label in dict.fromkeys(name(result) for result in logs.results):
        chosen = [r for r in logs.results if name(r) == label]
        metric = chosen[0]["metric"]
        short = label.removeprefix(metric).removeprefix("/").strip() or metric
        panels.setdefault(metric, {})[short] = _curve(chosen, "value")
    for metric in _names(logs.scores, leave_out=("step",)):
        if metric not in panels:
            panels[metric] = {"mean": _curve(logs.scores, metric)}
    return {
        metric: curves
        for metric, curves in panels.items()
        if any(len(steps) > 1 for steps, _ in curves.values())
    }


def _names(lines: Sequence[Mapping[str, Any]], leave_out: Sequence[str]) -> list[str]:
    names = dict.fromkeys(term for line in lines for term in line)
    return [term for term in names if term not in leave_out]


def _curve(lines: Sequence[Mapping[str, Any]], term: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values where the term is a finite number; the last of several at one step."""
    values = {
        line["step"]: float(line[term])
        for line in lines
        if isinstance(line.get(term), int | float) and math.isfinite(line[term])
    }
    return np.array(sorted(values)), np.array([values[step] for step in sorted(values)])


def thin(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most POINTS points: means of neighbours, so that no spike is picked by chance."""
    if len(steps) <= POINTS:
        return steps, values
    parts = np.array_split(np.arange(len(steps)), POINTS)
    return tuple(np.array([x[part].mean() for part in parts]) for x in (steps, values))  # type: ignore[return-value]


def running_mean(values: np.ndarray) -> np.ndarray:
    """Exponential, over about a thirtieth of the curve, without a bias at its start."""
    weight = 1 - 30 / max(len(values), 60)
    result, total, mass = np.empty_like(values), 0.0, 0.0
    for i, value in enumerate(values):
        total, mass = weight * total + value, weight * mass + 1
        result[i] = total / mass
    return result


def _panels(panels: Mapping[str, Curves], best: int | None = None) -> bytes:
    panels = {
        title: {k: c for k, c in curves.items() if len(c[0])} for title, curves in panels.items()
    }
    panels = {title: curves for title, curves in panels.items() if curves}
    if not panels:
        return b""
    figure, axes = _figure(len(panels))
    for axis, (title, curves) in zip(axes, panels.items(), strict=False):
        for label, curve in curves.items():
            steps, values = thin(*curve)
            if len(steps) < SMOOTHED_FROM:
                axis.plot(steps, values, label=label, marker="o", markersize=3, linewidth=1.2)
                continue
            (line,) = axis.plot(steps, values, alpha=0.25, linewidth=0.8)
            axis.plot(steps, running_mean(values), color=line.get_color(), label=label)
        everything = np.concatenate([values for _, values in curves.values()])
        if everything.min() > 0 and everything.max() > LOGARITHMIC_FROM * everything.min():
            axis.set_yscale("log")
        if best is not None:
            axis.axvline(best, color="0.6", linestyle=":", linewidth=1.2, label="best checkpoint")
        _finish(axis, title)
    return _png(figure)


def _rho(logs: Logs) -> bytes:
    """One panel a network: the mean of each layer's rho, from blue (early) to yellow (late)."""
    import matplotlib

    leaves = _names(logs.rho, leave_out=("step",))
    networks: dict[str, list[str]] = {}
    for leaf in leaves:
        networks.setdefault(leaf.split("/")[0], []).append(leaf)
    if not networks:
        return b""
    figure, axes = _figure(len(networks))
    for axis, (network, names) in zip(axes, networks.items(), strict=False):
        colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.95, len(names)))
        for leaf, colour in zip(names, colours, strict=True):
            lines = [{"step": line["step"], **line[leaf]} for line in logs.rho if leaf in line]
            steps, mean = thin(*_curve(lines, "mean"))
            label = leaf.removeprefix(f"{network}/").removesuffix("/rho")
            axis.plot(steps, mean, color=colour, label=label, linewidth=1.4)
            if len(names) == 1:
                low, high = (thin(*_curve(lines, end))[1] for end in ("min", "max"))
                axis.fill_between(steps, low, high, color=colour, alpha=0.15)
        axis.set_ylim(-0.03, 1.03)
        _finish(axis, f"{network}: mean rho of each layer (1 instance, 0 layer)")
    return _png(figure)


def _kid(logs: Logs) -> bytes:
    """The newest of each KID with its deviation, as bars."""
    newest = {name(r): r for r in logs.results if "kid" in r["metric"] and r["value"] is not None}
    if not newest:
        return b""
    from matplotlib.figure import Figure

    figure = Figure((2 * PANEL[0], 1.0 + 0.5 * len(newest)), layout="constrained")
    axis = figure.subplots()
    labels = [
        f"{key(r)}, step {r['step']:,}\n{label.removeprefix(key(r)).strip()}"
        for label, r in newest.items()
    ]
    values = [r["value"] for r in newest.values()]
    deviations = [r.get("std") or 0 for r in newest.values()]
    bars = axis.barh(labels, values, xerr=deviations, height=0.6, color="#4878a8", capsize=3)
    axis.bar_label(bars, [f"{value:.4g}" for value in values], padding=6, fontsize=8)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.invert_yaxis()
    axis.margins(x=0.15)
    axis.set_title("KID (lower is better)", fontsize=10)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def _figure(count: int) -> tuple[Any, list[Any]]:
    """A figure with at least `count` panels, and those panels; what is left over is removed."""
    from matplotlib.figure import Figure

    columns = min(count, COLUMNS)
    rows = math.ceil(count / columns)
    size = (PANEL[0] * COLUMNS, PANEL[1] * rows)
    figure = Figure(size, layout="constrained")
    axes = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for axis in axes[count:]:
        axis.remove()
    return figure, axes[:count]


def _finish(axis: Any, title: str) -> None:
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("step", fontsize=9)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16)}  # where it hides no curve
    longest = max(len(text) for text in axis.get_legend_handles_labels()[1])
    axis.legend(fontsize=8, frameon=False, ncols=1 if longest > 24 else 3, **below)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
