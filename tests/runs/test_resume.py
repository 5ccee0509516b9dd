"""A run that is stopped and resumed, or trained twice, is the same run."""

import json

import numpy as np
import pytest
import tensorflow as tf

import tfmix
from tests.runs.test_run import MIXER, PAIR, rows_of
from tests.training.test_training import Threes
from tfmix.errors import UserError
from tfmix.runs import folders
from tfmix.runs.session import Session


def stop_at(env_steps, monkeypatch):
    """Sessions end in the first collection's updates from `env_steps` on."""
    stop_when(lambda trainer: trainer.env_steps() >= env_steps, monkeypatch)


def stop_when(reached, monkeypatch):
    """Sessions end as soon as `reached`, asked after each update, says so of the trainer."""
    kept = Session.__init__

    def stopping(self, trainer, folder, seconds, should_stop, *others):
        kept(self, trainer, folder, seconds, lambda: reached(trainer), *others)

    monkeypatch.setattr("tfmix.training.call_limits.CALL_SECONDS", 0.0)
    monkeypatch.setattr(Session, "__init__", stopping)


def without_time(folder):
    return [{n: x for n, x in row.items() if n != "seconds"} for row in rows_of(folder)]


@pytest.mark.parametrize("lane", ["graph", "python"])
def test_resume_after_a_stop_between_two_rows_gives_the_run_that_was_not_stopped(
    lane, tmp_path, monkeypatch, builds
):
    env = "two_step" if lane == "graph" else Threes
    settings = {"algo": "vdn", "env_steps": 600, "log_period_env_steps": 100, **PAIR}
    settings |= {"buffer_episodes": 50, **({} if lane == "graph" else {"env_workers": 0})}
    tfmix.train(env, run_dir=tmp_path / "whole", **settings)
    with monkeypatch.context() as patch:
        stop_at(250, patch)
        first = tfmix.train(env, run_dir=tmp_path / "x", **settings)
    assert not first.finished and 250 <= first.env_steps < 260
    assert int(rows_of(tmp_path / "x")[-1]["env_steps"]) < 250
    # What a killed process leaves behind its checkpoint is cut away.
    with (tmp_path / "x" / "metrics.csv").open("a") as file:
        file.write(rows_text(first.folder, 300) + "352,5")
    second = tfmix.resume(tmp_path / "x", env=None if lane == "graph" else env)
    assert second.finished
    assert_same_run(tmp_path / "x", tmp_path / "whole", 600)
    seconds = [float(row["seconds"]) for row in rows_of(tmp_path / "x")]
    assert seconds == sorted(seconds)


def assert_same_run(one, other, env_steps):
    """The last checkpoints hold the same bits, metrics.csv and TensorBoard the same rows."""
    assert without_time(one) == without_time(other)
    saved = [
        tf.train.load_checkpoint(folder / "checkpoints" / str(env_steps) / "tensors")
        for folder in (one, other)
    ]
    names = saved[0].get_variable_to_shape_map()
    assert len(names) > 20
    for name in set(names) - {"_CHECKPOINTABLE_OBJECT_GRAPH"}:
        np.testing.assert_array_equal(saved[0].get_tensor(name), saved[1].get_tensor(name))
    steps = [event_steps(folder) for folder in (one, other)]
    assert steps[0] == steps[1] == sorted(set(steps[0]))


LANES_AND_SHARDS = [
    ("graph", 2),
    ("python", 1),
    pytest.param("graph", 1, marks=pytest.mark.slow),
    pytest.param("python", 2, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("lane,shards", LANES_AND_SHARDS)
def test_resume_after_stops_among_a_collections_updates_gives_the_run_that_was_not_stopped(
    lane, shards, tmp_path, monkeypatch, builds
):
    env = "two_step" if lane == "graph" else Threes
    settings = {"algo": "qmix", "env_steps": 60, "log_period_env_steps": 30, **PAIR, **MIXER}
    settings |= {"updates_per_episode": 5.5, "learning_rate_decay": "linear", "eval_episodes": 7}
    settings |= {"update_shards": shards, "standardise_rewards": True}
    settings |= {} if lane == "graph" else {"env_workers": 0}
    whole = tfmix.train(env, run_dir=tmp_path / "whole", **settings)
    folder, resumed = tmp_path / "x", {"env": None if lane == "graph" else env}
    counts = whole.trainer.counters
    last = int(counts.updates)
    # At a row's collection, twice in one collection's updates, and in the last collection's.
    for number, updates in enumerate((14, 17, last - 4)):
        with monkeypatch.context() as patch:
            stop_when(lambda trainer, at=updates: trainer.counters.updates >= at, patch)
            run = tfmix.resume(folder, **resumed) if number else None
            run = run or tfmix.train(env, run_dir=folder, **settings)
        assert not run.finished and int(run.trainer.counters.updates) == updates
        assert run.trainer.owes_updates() and not folders.is_finished(folder, 60)
        assert not (folder / "export").exists()
    assert run.env_steps == 60 and not tfmix.load(folder, **resumed).finished
    with monkeypatch.context() as patch:  # all is learned, the last evaluation is left
        stop_when(lambda trainer: trainer.counters.updates >= last, patch)
        run = tfmix.resume(folder, **resumed)
    assert not run.finished and not folders.is_finished(folder, 60)
    assert tfmix.resume(folder, **resumed).finished and folders.is_finished(folder, 60)
    assert_same_run(folder, tmp_path / "whole", 60)


def event_steps(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return [event.step for event in events.Tensors("return/train")]


def test_a_finished_run_goes_on_to_a_new_end_alone(tmp_path, builds):
    settings = {"algo": "vdn", "env": "two_step", "env_steps": 200, **PAIR}
    done = tfmix.train(run_dir=tmp_path / "x", **settings)
    before = (done.folder / "metrics.csv").read_bytes()
    again = tfmix.resume(tmp_path / "x")
    assert again.finished and (done.folder / "metrics.csv").read_bytes() == before
    longer = tfmix.resume(tmp_path / "x", env_steps=400)
    assert longer.env_steps == 400
    assert json.loads((tmp_path / "x" / "run.json").read_text())["config"]["env_steps"] == 400
    for wrong in (-3, 200):
        with pytest.raises(UserError, match="env_steps"):
            tfmix.resume(tmp_path / "x", env_steps=wrong)


def test_a_new_end_of_a_decaying_learning_rate_is_reported(tmp_path, capsys, builds):
    settings = {"algo": "vdn", "env_steps": 200, **PAIR}
    settings |= {"learning_rate": 1e-2, "learning_rate_decay": "linear"}
    tfmix.train("two_step", run_dir=tmp_path / "x", **settings)
    assert float(rows_of(tmp_path / "x")[-1]["learning_rate"]) == 0.0
    capsys.readouterr()
    tfmix.resume(tmp_path / "x", env_steps=400)
    told = capsys.readouterr().err
    assert "at 400 env steps, not at 200: the learning rate at 200 is 0.005 instead" in told
    rates = [float(row["learning_rate"]) for row in rows_of(tmp_path / "x")]
    assert 0.0 == rates[-1] < max(rates[-5:]) < 5e-3
    tfmix.resume(tmp_path / "x", env_steps=400)
    assert "learning rate" not in capsys.readouterr().err


def test_a_run_with_a_new_end_is_the_run_that_had_it_from_its_start(tmp_path, builds):
    settings = {"algo": "vdn", "learning_rate_decay": "none", **PAIR}
    tfmix.train("two_step", run_dir=tmp_path / "x", env_steps=200, **settings)
    found = []
    for run in (
        lambda: tfmix.resume(tmp_path / "x", env_steps=400),
        lambda: tfmix.train("two_step", run_dir=tmp_path / "whole", env_steps=400, **settings),
    ):
        trainer = run().trainer
        variables = (*trainer.algorithm.variables, *trainer.learner.variables)
        found.append([x.numpy() for x in variables])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_without_its_replay_in_checkpoints_fills_it_before_it_learns_again(
    tmp_path, monkeypatch
):
    settings = {"algo": "vdn", "env": "two_step", "env_steps": 400, **PAIR}
    stop_at(200, monkeypatch)
    first = tfmix.train(run_dir=tmp_path / "x", checkpoint_replay=False, **settings)
    size = sum(p.stat().st_size for p in (tmp_path / "x" / "checkpoints").rglob("*"))
    assert size < 200_000  # 5,000 episodes would take more
    monkeypatch.undo()
    updates = int(first.trainer.counters.updates)
    done = tfmix.load(tmp_path / "x").trainer
    assert int(done.replay.num_episodes()) == 0
    for _ in range(3):  # six of the eight episodes that a batch has
        done.run_iterations(tf.constant(1), tf.constant(100, tf.int64))
    assert int(done.counters.updates) == updates
    done.run_iterations(tf.constant(1), tf.constant(100, tf.int64))
    assert int(done.counters.updates) == int(done.counters.episodes) - 8


def rows_text(folder, env_steps):
    columns = (folder / "metrics.csv").read_text().splitlines()[0].count(",")
    return f"{env_steps}{',0' * columns}\n"


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path, builds):
    found = []
    for number, seed in enumerate((3, 3, 4)):
        done = tfmix.train(
            algo="vdn",
            env="two_step",
            env_steps=400,
            seed=seed,
            run_dir=tmp_path / str(number),
            **PAIR,
        )
        found.append([w.numpy() for w in done.algorithm.live.variables])
    assert all(np.array_equal(a, b) for a, b in zip(found[0], found[1], strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(found[0], found[2], strict=True))
