"""Short runs of every algorithm repeat the metrics that are stored in tests/golden.

A change of arithmetic that no other test looks at shows here. Where the change
is meant, `XLA_FLAGS= python -m tests.test_golden` writes the files anew, compiled as users do.
"""

import csv
import tempfile
from pathlib import Path

import numpy as np
import pytest

import tfmix
from tests.conftest import slow_unless
from tfmix import algos
from tfmix.config import resolve
from tfmix.runs.unread import why_unread

GOLDEN = Path(__file__).parent / "golden"
GAMES = ("two_step", "matrix/climbing")
SMALL = {
    "hidden_size": 8,
    "mixer_embed": 4,
    "hypernet_embed": 8,
    "central_embed": 8,
    "qtran_embed": 8,
    "duplex_kernels": 2,
    "duplex_layers": 2,
    "n_envs": 4,
    "batch_episodes": 8,
    "buffer_episodes": 100,
    "updates_per_episode": 0.5,
    "target_period_updates": 10,
    "eval_episodes": 4,
    "eval_period_env_steps": 250,
    "log_period_env_steps": 100,
    "epsilon_anneal_env_steps": 400,
    "learning_rate": 1e-3,
    "update_shards": 1,
    "seed": 3,
}
TOLERANCE = 1e-5


def play(algo, env, folder):
    """Trains for 500 env steps; returns the columns of metrics.csv but for `seconds`."""
    config = resolve.resolve({**SMALL, "algo": algo, "env": env})
    settings = {name: value for name, value in SMALL.items() if not why_unread(name, config)}
    tfmix.train(env, algo, env_steps=500, run_dir=folder / "run", **settings).close()
    return read(folder / "run" / "metrics.csv")


def read(path):
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return {
        name: [float(row[name] or "nan") for row in rows] for name in rows[0] if name != "seconds"
    }


def file_of(algo, env):
    return GOLDEN / f"{env.replace('/', '_')}.{algo}.csv"


@pytest.mark.parametrize("env", slow_unless(GAMES[:1], GAMES))
@pytest.mark.parametrize(
    "algo", slow_unless(["vdn", "ow_qmix", "qplex", "qtran_alt"], algos.REGISTRY)
)
def test_a_short_run_repeats_its_golden_metrics(algo, env, tmp_path):
    found, wanted = play(algo, env, tmp_path), read(file_of(algo, env))
    assert list(found) == list(wanted)
    for name, values in wanted.items():
        np.testing.assert_allclose(
            found[name], values, rtol=TOLERANCE, atol=TOLERANCE, err_msg=name, equal_nan=True
        )


def write():
    """Writes the files anew."""
    for env in GAMES:
        for algo in algos.REGISTRY:
            with tempfile.TemporaryDirectory() as folder:
                columns = play(algo, env, Path(folder))
            with file_of(algo, env).open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(columns)
                writer.writerows(
                    ["" if np.isnan(x) else f"{x:.9g}" for x in row]
                    for row in zip(*columns.values(), strict=True)
                )


if __name__ == "__main__":
    write()
