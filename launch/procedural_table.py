"""Trains the unpaired methods on procedural pictures, with several seeds, and prints a table.

    python launch/procedural_table.py --output runs/procedural --seeds 3 --steps 600

Each run is an ordinary `ganattn train` with its own folder: started again, the script resumes what
is not finished and prints the table of what is.
"""

import argparse
import json
import statistics
import subprocess
from pathlib import Path

ROWS = {
    "CycleGAN": "spap_cyclegan:vanilla",
    "CycleGAN, identity loss": "cyclegan:",
    "+ ASPP": "spap_cyclegan:aspp",
    "+ SPAP, coarse to fine": "spap_cyclegan:",
    "+ SPAP, fine to coarse": "spap_cyclegan:fine_to_coarse",
    "guidance, post hoc, residual product": "guidance:",
    "guidance, post hoc, alpha channel": "guidance:alpha",
    "guidance, trainable, residual product": "guidance:trainable",
    "guidance, trainable, alpha channel": "guidance:trainable,alpha",
    "U-GAT-IT": "ugatit:",
    "U-GAT-IT without CAM": "ugatit:no_cam",
}
COLUMNS = {
    "mask_l1": "L1 inside the mask",
    "mask_l1_ratio": "over the source's",
    "background_l1": "L1 of the background",
    "attention_iou": "attention to mask, IoU",
}


def main() -> None:
    """Trains what is missing, then prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/procedural"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--only-print", action="store_true", help="train nothing")
    options = parser.parse_args()
    for seed in range(options.seeds):
        for config in ROWS.values():
            workdir = _workdir(options, config, seed)
            if not options.only_print and not (workdir / "result.json").exists():
                _train(config, seed, options.steps, workdir)
    print(_table(options))


def _workdir(options: argparse.Namespace, config: str, seed: int) -> Path:
    name = config.strip(":").replace(":", "_").replace(",", "_")
    return options.output / f"{name}_{seed}"


def _train(config: str, seed: int, steps: int, workdir: Path) -> None:
    name, _, variant = config.partition(":")
    words = ",".join(filter(None, (variant, "quickstart")))
    fields = {
        "seed": seed,
        "optimizer.total_steps": steps,
        "optimizer.decay_start_step": steps // 2,
    }
    if name == "spap_cyclegan":
        fields["method.pyramid_start_step"] = steps // 2
    overrides = [f"--config.{field}={value}" for field, value in fields.items()]
    command = ["ganattn", "train", "--config", f"configs/{name}.py:{words}", "--workdir", workdir]
    subprocess.run([*map(str, command), *overrides], check=True)


def _table(options: argparse.Namespace) -> str:
    lines = ["| method | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, config in ROWS.items():
        paths = [_workdir(options, config, seed) / "result.json" for seed in range(options.seeds)]
        results = [json.loads(path.read_text()) for path in paths if path.exists()]
        cells = [_cell([r[column] for r in results if column in r]) for column in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
