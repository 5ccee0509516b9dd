"""Kinds of agents and environments that train; what ends a training early."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

import tfmix
from tests.runs.test_run import MIXER, PAIR, SMALL
from tests.training.test_collect import PythonCountdown
from tfmix.config import resolve
from tfmix.envs.python import EnvError
from tfmix.errors import RunFailedError, UserError
from tfmix.runs import checkpoint
from tfmix.training.task import open_task
from tfmix.training.trainer import Trainer


@pytest.mark.parametrize(
    "kind",
    [
        {"recurrent": False, "last_action": False},  # carries nothing at all
        {"share_parameters": False},
    ],
    ids=str,
)
@pytest.mark.whole_run
def test_every_kind_of_agent_trains_exports_and_is_loaded(kind, tmp_path):
    settings = {**PAIR, "algo": "vdn", "env_steps": 64}
    run = tfmix.train("two_step", run_dir=tmp_path / "run", **settings, **kind)
    again = tfmix.load(tmp_path / "run")  # exporting has compared all signatures with the policy
    obs = np.eye(3, dtype=np.float32)[[0, 0]]
    np.testing.assert_array_equal(run.act(obs), again.act(obs))
    assert (tmp_path / "run" / "export").is_dir()


def test_observations_that_the_replays_number_type_cannot_hold_are_one_line(tmp_path):
    settings = {**PAIR, "algo": "vdn", "env_steps": 400, "buffer_type": "uint8"}
    with pytest.raises(RunFailedError, match=r"not a whole number .* choose float32 or float16"):
        tfmix.train("mpe/simple_spread", run_dir=tmp_path / "run", **settings)


def test_a_call_does_no_more_updates_than_it_may_and_the_rest_is_the_same_run():
    chosen = resolve.resolve({"algo": "vdn", "env": "two_step", "updates_per_episode": 3, **SMALL})
    trainer = Trainer(open_task(chosen))
    counters, found = trainer.counters, []
    for limit in (10**6, 5):
        trainer.restart(0)
        while trainer.env_steps() < 96 or trainer.owes_updates():  # 16 a collection
            before, left = int(counters.updates), (96 - trainer.env_steps()) // 16
            well, due = trainer.run_iterations(tf.constant(left), tf.constant(limit, tf.int64))
            assert well and int(due) == int(trainer.updates_due())
            assert int(counters.updates) - before <= limit
        assert trainer.env_steps() == 96 and int(counters.updates) == (48 - 8) * 3
        assert trainer.run_iterations.experimental_get_tracing_count() == 1
        found.append([x.numpy() for x in trainer.algorithm.live.variables])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.whole_run
def test_an_environment_of_the_users_own_trains_through_the_same_loop(tmp_path):
    done = tfmix.train(
        env=lambda: PythonCountdown(3),
        algo="vdn",
        env_steps=120,
        run_dir=tmp_path / "x",
        **PAIR,
    )
    assert done.env_steps == 120 and done.evaluate(3).tolist() == [3.0] * 3
    alone = tfmix.load(tmp_path / "x")  # acts and exports, but has nothing to play in
    assert alone.act(np.zeros([2, 1])).shape == (2,)
    assert alone.export().is_dir()
    with pytest.raises(UserError, match="pass it with env="):
        alone.evaluate(1)
    loaded = tfmix.load(tmp_path / "x", env=lambda: PythonCountdown(3))
    np.testing.assert_array_equal(loaded.evaluate(3), [3.0] * 3)
    with pytest.raises(UserError, match="give a factory"):
        tfmix.train(env=PythonCountdown(3), algo="vdn", env_steps=8, run_dir=tmp_path / "y")


class Threes(PythonCountdown):
    def __init__(self):
        super().__init__(3)


def test_a_class_serves_as_a_factory(tmp_path):
    done = tfmix.train(
        env=Threes,
        algo="iql",
        env_steps=12,
        env_workers=0,  # a worker would import this file, TensorFlow and all
        run_dir=tmp_path / "x",
        **PAIR,
    )
    assert done.env_steps == 12 and done.config.env == "custom/Threes"


class Stateless(PythonCountdown):
    spec = dataclasses.replace(PythonCountdown.spec, state_size=0)

    def __init__(self):
        super().__init__(3)

    def _look(self):
        obs, _, legal = super()._look()
        return obs, np.zeros([0]), legal


def test_a_task_without_a_state_trains_is_loaded_and_acts(tmp_path):
    settings = {**PAIR, **MIXER, "algo": "qmix", "env_steps": 120, "env_workers": 0}
    done = tfmix.train(Stateless, run_dir=tmp_path / "x", **settings)
    assert done.spec.state_size == 0 and int(done.trainer.counters.updates) > 0
    loaded = tfmix.load(tmp_path / "x", env=Stateless)
    assert loaded.finished and loaded.act(np.zeros([2, 1])).shape == (2,)
    assert (tmp_path / "x" / "export").is_dir()


def test_an_environment_of_another_library_is_taken_as_it_is(tmp_path):
    from pettingzoo.mpe import simple_spread_v3

    settings = {"algo": "vdn", "env_steps": 50, "eval_episodes": 1, "recurrent": False, **SMALL}
    factory = functools.partial(simple_spread_v3.parallel_env, max_cycles=5)
    done = tfmix.train(env=factory(), n_envs=1, run_dir=tmp_path / "made", **settings)
    assert done.env_steps == 50 and done.spec.obs_size == 18 and done.spec.episode_limit == 5
    again = tfmix.load(tmp_path / "made", env=factory)  # in a worker
    assert again.evaluate(2).shape == (2,) and again.trainer.collector.restarts == 0
    again.close()
    with pytest.raises(UserError, match="gives a dict, which is not an environment of tfmix"):
        tfmix.train(env=dict, run_dir=tmp_path / "y", **settings)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(
    tmp_path, monkeypatch
):
    from tfmix.algos.value_mixing import AdditiveMixer

    kept = AdditiveMixer.call

    def non_finite(self, agent_q, state, **_):
        return kept(self, agent_q, state) * float("nan")

    monkeypatch.setattr(AdditiveMixer, "call", non_finite)
    with pytest.raises(RunFailedError, match=r"grad_norm, loss.* became NaN or infinite"):
        tfmix.train(algo="vdn", env="two_step", env_steps=4000, run_dir=tmp_path / "x", **PAIR)
    assert checkpoint.latest(tmp_path / "x" / "checkpoints") is None


class Breaking(PythonCountdown):
    def step(self, action):
        if len(self.seeds) > 8:
            raise EnvError("custom: a reward is NaN")
        return super().step(action)


def test_an_environment_that_fails_ends_the_run_and_nothing_is_lost(tmp_path):
    with pytest.raises(RunFailedError, match="a reward is NaN; what was learned is saved"):
        tfmix.train(
            env=lambda: Breaking(3),
            algo="vdn",
            env_steps=600,
            run_dir=tmp_path / "x",
            **PAIR,
        )
    loaded = tfmix.load(tmp_path / "x", env=lambda: PythonCountdown(3))
    assert loaded.env_steps == 8 * 2 * 3 and not loaded.finished
