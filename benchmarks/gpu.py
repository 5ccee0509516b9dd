"""Compares a GPU with the CPU of the same machine: numerical agreement and speed.

  python benchmarks/gpu.py                                    needs an NVIDIA GPU and `make gpu`
  python benchmarks/gpu.py --only=update --algo=qmix,qplex --size=smac --json=gpu.json

  agree    Loss and gradient of one batch on the GPU and on the CPU, with the same weights: the
           largest difference of the gradients divided by the largest entry of its layer, with
           tfmix's settings and with TensorFloat-32, which tfmix turns off.
  update   One update in a compiled loop: `benchmarks/update.py` in a process with the GPU and in
           one that does not see it.
  train    Training of simple_spread by `benchmarks/train_speed.py`, in env steps/s: with the
           replay in the GPU's memory, with it in the host's memory, and without the GPU.

Times are medians (and ranges) of repeats; `faster by` is CPU time / GPU time. The exit code is 1
if gradients without TensorFloat-32 differ by more than 1e-3.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.update import (  # noqa: E402  (tfmix before TensorFlow)
    BATCH,
    SIZES,
    check,
    chosen,
    parser_of,
    random_batch,
    settings,
    text,
)

import numpy as np  # noqa: E402  # isort: skip
import tensorflow as tf  # noqa: E402

from tfmix import algos  # noqa: E402
from tfmix.errors import UserError  # noqa: E402
from tfmix.training.learner import Learner  # noqa: E402

PARTS = ("agree", "update", "train")
CASES = ("graph-8", "graph-128", "graph-1024")
WITHOUT = {"CUDA_VISIBLE_DEVICES": "-1"}
ALLOWED = 1e-3


def learned(
    device: str, algo: str, size: str, weights: Any = None, tf32: bool = False
) -> tuple[float, Any, Any]:
    """Return loss, gradients and weights of a fixed batch; draw `weights` if they are None."""
    with tf.device(device):
        algorithm = algos.make(algo, SIZES[size], settings(algo))
        algorithm.init_weights(tf.constant([0, 0]))
        variables = [*algorithm.live.variables, *algorithm.target.variables]
        for variable, value in zip(variables, weights or (), strict=bool(weights)):
            variable.assign(value)
        learner = Learner(algorithm)
        tf.config.experimental.enable_tensor_float_32_execution(tf32)
        shard = learner._learn(random_batch(SIZES[size], BATCH))
    gradients = [x.numpy() for x in shard.gradients]
    return float(shard.metrics["loss"]), gradients, [x.numpy() for x in variables]


def agree(algo: str, size: str) -> dict[str, Any]:
    """Return the GPU's numbers against the CPU's."""
    loss, gradients, weights = learned("cpu:0", algo, size)
    row: dict[str, Any] = {"algo": algo, "size": size, "loss": loss}
    for name in ("tf32", "float32"):
        found, there, _ = learned("gpu:0", algo, size, weights, name == "tf32")
        row[f"loss_{name}"] = abs(found - loss) / abs(loss)
        row[f"gradient_{name}"] = max(
            float(np.abs(a - b).max() / np.abs(b).max())
            for a, b in zip(there, gradients, strict=True)
            if np.abs(b).max() > 0
        )
    return row


def child(script: str, *words: str, **env: str) -> Any:
    """Return the JSON of another benchmark's process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        command = [sys.executable, str(ROOT / "benchmarks" / script), *words, f"--json={path}"]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env})
        if not path.exists():
            raise UserError(f"{script} failed: {done.stderr.strip()[-2000:]}")
        return json.loads(path.read_text())


def updates(asked: argparse.Namespace) -> Iterator[str]:
    """Return rows of the update; the numbers are added to `asked.found`."""
    words = [f"--algo={asked.algo}", f"--size={asked.size}", f"--repeats={asked.repeats}"]
    sides = [child("update.py", *words, **env)["rows"] for env in ({}, WITHOUT)]
    asked.found["update"] = sides
    yield "| size | algorithm | GPU, ms | CPU, ms | faster by | compile on the GPU, s |"
    for there, here in zip(*sides, strict=True):
        ratio = [a / b for a, b in zip(here["in_loop_ms"], there["in_loop_ms"], strict=True)]
        yield (
            f"| {there['size']} | {there['algo']} | {text(there['in_loop_ms'])} | "
            f"{text(here['in_loop_ms'])} | {statistics.median(ratio):.2f} | "
            f"{there['compile_s']:.1f} |"
        )


def trainings(asked: argparse.Namespace) -> Iterator[str]:
    """Return rows of training; the numbers are added to `asked.found`."""
    words = [f"--case={asked.case}", f"--repeats={asked.repeats}"]
    sides = [
        child("train_speed.py", *words, *more, **env)["rows"]
        for more, env in (([], {}), (["--setting=gpu_buffer_gb=0"], {}), ([], WITHOUT))
    ]
    asked.found["train"] = sides
    yield "| case | algorithm | GPU, replay there | GPU, replay with the host | CPU |"
    for rows in zip(*sides, strict=True):
        rates = [text([1e6 / x for x in row["us"]["loop"]], 0) for row in rows]
        yield f"| {rows[0]['case']} | {rows[0]['algo']} | " + " | ".join(rates) + " |"


def agreements(asked: argparse.Namespace) -> Iterator[str]:
    """Return rows of agreement; the numbers are added to `asked.found`."""
    asked.found["agree"] = []
    yield "| size | algorithm | loss, TF32 | gradient, TF32 | loss, float32 | gradient, float32 |"
    for size in chosen(asked.size, SIZES, "size"):
        for algo in chosen(asked.algo, algos.REGISTRY, "algorithm"):
            row = agree(algo, size)
            asked.found["agree"].append(row)
            cells = [row[f"{of}_{n}"] for n in ("tf32", "float32") for of in ("loss", "gradient")]
            yield f"| {size} | {algo} | " + " | ".join(f"{x:.1e}" for x in cells) + " |"


def main() -> int:
    """Measure, print and write; return the exit code."""
    parser = parser_of(__doc__, repeats=3)
    parser.add_argument("--only", default="", help=f"some of {', '.join(PARTS)}; empty means all")
    parser.add_argument("--algo", default="", help="names, separated by commas; empty means all")
    parser.add_argument("--size", default="", help="spread, smac; empty means both")
    parser.add_argument("--case", default=",".join(CASES), help="cases of train_speed.py")
    asked = parser.parse_args()
    asked.found = {}
    try:
        check(asked)
        only = chosen(asked.only, PARTS, "part")
        chosen(asked.algo, algos.REGISTRY, "algorithm")
        chosen(asked.size, SIZES, "size")
        gpus = tf.config.list_physical_devices("GPU")
        if not gpus:
            raise UserError("TensorFlow sees no GPU here: `make gpu` installs what it needs")
        details = tf.config.experimental.get_device_details(gpus[0])
        asked.found["device"] = details.get("device_name", "GPU")
        asked.found["tensorflow"] = tf.__version__
        print(f"{asked.found['device']}, TensorFlow {tf.__version__}", flush=True)
        for gpu in gpus:  # this process and its children share it
            tf.config.experimental.set_memory_growth(gpu, True)
        rows = {"agree": agreements, "update": updates, "train": trainings}
        for part in only:
            for number, line in enumerate(rows[part](asked)):
                print(("\n" if number == 0 else "") + line, flush=True)
                if number == 0:
                    print("|---" * (line.count("|") - 1) + "|", flush=True)
            if asked.json:
                asked.json.write_text(json.dumps(asked.found, indent=1) + "\n")
    except UserError as error:
        print(f"gpu: {error}", file=sys.stderr)
        return 2
    return int(any(row["gradient_float32"] > ALLOWED for row in asked.found.get("agree", ())))


if __name__ == "__main__":
    sys.exit(main())
