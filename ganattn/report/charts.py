"""The charts of a report as PNG files; only this module imports matplotlib, when it is called."""

import io
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ganattn.errors import ConfigError
from ganattn.runs.logs import Curve, Run
from ganattn.runs.results import key, name

POINTS = 1_000  # at most, in a curve; more are averaged
SMOOTHED_FROM = 60  # points from which a running mean is drawn over a faint curve
LOGARITHMIC_FROM = 30  # ratio of a panel's largest to its smallest value
PANEL = (5.2, 3.6)  # inches
COLUMNS = 2  # of panels

Curves = dict[str, Curve]


def draw(run: Run) -> dict[str, bytes]:
    """Chart name -> PNG: losses, metrics, rho, kid; only those for which there are numbers.

    Raises ConfigError without matplotlib.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"ganattn report draws with matplotlib ({error}): pip install 'ganattn[report]'"
        ) from error
    charts = {
        "losses": _panels(losses(run)),
        "metrics": _panels(metrics(run), best=run.best),
        "rho": _rho(run),
        "kid": _kid(run),
    }
    return {name: png for name, png in charts.items() if png}


def losses(run: Run) -> dict[str, Curves]:
    """One panel a group of terms: "generator/cycle" is the curve cycle in the panel generator."""
    panels: dict[str, Curves] = {}
    for term, curve in run.metrics.items():
        group, _, label = term.partition("/")
        if term != "seconds":
            panels.setdefault(group if label else "others", {})[label or term] = curve
    return panels


def metrics(run: Run) -> dict[str, Curves]:
    """One panel a metric and one curve a direction and convention.

    A metric with values at one step only is not drawn: the table of results has it.
    """
    panels: dict[str, Curves] = {}
    for label, curve in run.evaluation.items():
        metric = re.split("[/ ]", label)[0]
        short = label.removeprefix(metric).removeprefix("/").strip() or metric
        panels.setdefault(metric, {})[short] = curve
    return {
        metric: curves
        for metric, curves in panels.items()
        if any(len(curve.steps) > 1 for curve in curves.values())
    }


def thin(curve: Curve) -> Curve:
    """At most POINTS points: means of neighbors, so that no spike is picked by chance."""
    if len(curve.steps) <= POINTS:
        return curve
    parts = np.array_split(np.arange(len(curve.steps)), POINTS)
    return Curve(*(np.array([x[part].mean() for part in parts]) for x in curve))


def running_mean(values: np.ndarray) -> np.ndarray:
    """Exponential, over about a thirtieth of the curve, without a bias at its start."""
    weight = 1 - 30 / max(len(values), 60)
    result, total, mass = np.empty_like(values), 0.0, 0.0
    for i, value in enumerate(values):
        total, mass = weight * total + value, weight * mass + 1
        result[i] = total / mass
    return result


def _panels(panels: Mapping[str, Curves], best: int | None = None) -> bytes:
    if not panels:
        return b""
    figure, axes = _figure(len(panels))
    for axis, (title, curves) in zip(axes, panels.items(), strict=False):
        for label, curve in curves.items():
            steps, values = thin(curve)
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


def _rho(run: Run) -> bytes:
    """One panel a network: the mean of each layer's rho, from blue (early) to yellow (late)."""
    import matplotlib

    networks: dict[str, list[str]] = {}
    for label in run.rho:
        if label.endswith("/mean"):
            leaf = label.removesuffix("/mean")
            networks.setdefault(leaf.split("/")[0], []).append(leaf)
    if not networks:
        return b""
    figure, axes = _figure(len(networks))
    for axis, (network, names) in zip(axes, networks.items(), strict=False):
        colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.95, len(names)))
        for leaf, color in zip(names, colors, strict=True):
            steps, mean = thin(run.rho[f"{leaf}/mean"])
            label = leaf.removeprefix(f"{network}/").removesuffix("/rho")
            axis.plot(steps, mean, color=color, label=label, linewidth=1.4)
            if len(names) == 1:
                low, high = (thin(run.rho[f"{leaf}/{end}"]).values for end in ("min", "max"))
                axis.fill_between(steps, low, high, color=color, alpha=0.15)
        axis.set_ylim(-0.03, 1.03)
        _finish(axis, f"{network}: mean rho of each layer (1 instance, 0 layer)")
    return _png(figure)


def _kid(run: Run) -> bytes:
    """The newest value of each KID with its deviation, as bars."""
    newest = {name(r): r for r in run.results if "kid" in r["metric"] and r["value"] is not None}
    if not newest:
        return b""
    figure, (axis,) = _figure(1, 1.0 + 0.5 * len(newest))
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
    _style(axis, "KID (lower is better)")
    return _png(figure)


def _figure(count: int, height: float = PANEL[1]) -> tuple[Any, list[Any]]:
    """A figure with `count` panels of a height in inches, and those panels."""
    from matplotlib.figure import Figure

    columns = min(count, COLUMNS)
    rows = math.ceil(count / columns)
    figure = Figure((PANEL[0] * COLUMNS, height * rows), layout="constrained")
    axes = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for axis in axes[count:]:
        axis.remove()
    return figure, axes[:count]


def _finish(axis: Any, title: str) -> None:
    _style(axis, title)
    axis.set_xlabel("step", fontsize=9)
    axis.grid(alpha=0.25)
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16)}  # where it covers no curve
    longest = max(len(text) for text in axis.get_legend_handles_labels()[1])
    axis.legend(fontsize=8, frameon=False, ncols=1 if longest > 24 else 3, **below)


def _style(axis: Any, title: str) -> None:
    axis.set_title(title, fontsize=10)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
