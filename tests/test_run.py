"""Runs as a user has them: train, look at the folder, load, evaluate, export, resume."""

import csv
import dataclasses
import functools
import hashlib
import json
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

import tfmix
from tests.test_collect import PythonCountdown
from tfmix import cli
from tfmix.config import resolve
from tfmix.envs.python import EnvError
from tfmix.errors import STOPPED, RunFailedError, UserError
from tfmix.runs import checkpoint, folders
from tfmix.runs.export import ExportedPolicy
from tfmix.runs.session import Session
from tfmix.training.task import open_task
from tfmix.training.trainer import Trainer

ROOT = Path(__file__).resolve().parent.parent
SMALL = {"hidden_size": 8, "batch_episodes": 8}
MIXER = {"mixer_embed": 4, "hypernet_embed": 4}
# An evaluation of as many episodes as are collected at a time is compiled with the collection.
PAIR = {**SMALL, "n_envs": 2, "eval_episodes": 2}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "spread"
    return tfmix.train(
        algo="qmix",
        env="mpe/simple_spread",
        env_steps=4000,
        eval_period_env_steps=2000,
        eval_episodes=8,
        checkpoint_period_seconds=1e6,  # the last one alone, however slow the machine is
        run_dir=folder,
        seed=5,
        **SMALL,
        **MIXER,
    )


def rows_of(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_run_json_says_what_was_run(trained):
    about = json.loads((trained.folder / "run.json").read_text())
    assert about["seed"] == about["config"]["seed"] == 5
    assert about["config"]["learning_rate_decay"] == "linear"  # of flags/env/mpe.flags
    assert about["spec"]["name"] == "mpe/simple_spread" and about["spec"]["team_reward"] == "sum"
    assert about["versions"]["tensorflow"] == tf.__version__
    assert about["hardware"]["device"].startswith("device: ")


def test_metrics_have_the_promised_columns_and_no_gap(trained):
    text = (trained.folder / "metrics.csv").read_text()
    assert text.startswith("env_steps,episodes,updates,seconds,train_return,greedy_return,")
    rows = rows_of(trained.folder)
    steps = [int(row["env_steps"]) for row in rows]
    assert steps == list(range(200, 4001, 200))
    assert [int(r["env_steps"]) for r in rows if r["greedy_return"]] == [2000, 4000]
    assert int(rows[-1]["episodes"]) == 160
    # An update for every so many episodes behind the first full batch.
    owed = (160 - 8) * trained.config.updates_per_episode
    assert int(rows[-1]["updates"]) == int(owed)
    assert rows[0]["loss"] == "" or int(rows[0]["updates"]) > 0
    assert all(
        float(rows[-1][name]) == float(rows[-1][name]) for name in ("loss", "q_tot", "target")
    )


def test_tensorboard_shows_returns_losses_and_speed(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained.folder), size_guidance={"tensors": 0})
    events.Reload()
    tags = set(events.Tags()["tensors"])
    assert {
        "return/train",
        "return/greedy",
        "learner/loss",
        "learner/q_tot",
        "learner/target",
        "learner/grad_norm",
        "run/epsilon",
        "run/buffer_episodes",
        "run/env_steps_per_second",
    } <= tags
    last = events.Tensors("run/buffer_episodes")[-1]
    assert last.step == 4000 and tf.make_ndarray(last.tensor_proto) == 160


def test_nothing_is_traced_again_after_the_first_chunks(trained):
    trainer = trained.trainer
    assert trainer.run_iterations.experimental_get_tracing_count() == 1
    assert trainer.learner.update.experimental_get_tracing_count() == 1


def test_a_loaded_run_acts_and_evaluates_like_the_trained_one(trained):
    loaded = tfmix.load(trained.folder)
    assert loaded.env_steps == 4000 and loaded.finished
    np.testing.assert_array_equal(loaded.evaluate(16), trained.evaluate(16))
    random = np.random.default_rng(0)
    trained.reset()
    for _ in range(3):
        obs = random.normal(size=[2, 3, 18])
        np.testing.assert_array_equal(loaded.act(obs), trained.act(obs))
    loaded.reset()
    one = loaded.act(obs[0])
    assert one.shape == (3,) and one.dtype == np.int32
    only_two = np.arange(5) == 2
    loaded.reset()
    np.testing.assert_array_equal(loaded.act(obs[0], np.broadcast_to(only_two, [3, 5])), 2)
    with pytest.raises(UserError, match="not \\[B, 3, 18\\]"):
        loaded.act(np.zeros([3, 17]))
    with pytest.raises(UserError, match="legal has shape"):
        loaded.act(obs[0], np.ones([2, 5], bool))


@pytest.mark.parametrize(
    "changes,message",
    [
        (
            {"obs": (1, 4, np.nan)},
            "agent 1 of episode 1 has an observation that is NaN or infinite",
        ),
        ({"obs": (2, 0, 1e300)}, "agent 2 of episode 1 has an observation that is NaN or infinite"),
        ({"obs": "text"}, "obs holds values of type <U"),
        ({"obs": [[1.0], [1.0, 2.0]]}, "obs is not an array"),
        ({"legal": (1, slice(None), 0)}, "agent 1 of episode 1 cannot act: none of its own"),
        ({"legal": (2, 4, np.nan)}, "agent 2 of episode 1 has a mask of legal actions with nan"),
        ({"legal": (0, 4, -np.inf)}, "agent 0 of episode 1 .* with -inf in it: it takes true or"),
        ({"legal": (0, 4, 0.5)}, "agent 0 of episode 1 has a mask of legal actions with 0.5"),
        ({"legal": np.full([3, 5], "yes")}, "legal holds values of type <U"),
        ({"legal": [[0, 1], [1]]}, "legal is not an array"),
        ({"legal": np.ones([3, 1])}, r"legal has shape \[3, 1\], not \[2, 3, 5\]"),
    ],
)
def test_act_refuses_what_is_no_observation_or_no_mask(trained, changes, message):
    given = {"obs": np.ones([2, 3, 18]), "legal": np.ones([2, 3, 5])}
    trained.reset()
    trained.act(**given)
    before = trained._policy_state.numpy()
    for name, change in changes.items():
        if isinstance(change, tuple):
            *place, value = change
            given[name][(1, *place)] = value
        else:
            given[name] = change
    with pytest.raises(UserError, match=message):
        trained.act(**given)
    np.testing.assert_array_equal(trained._policy_state, before)


@pytest.fixture(scope="module")
def unequal(tmp_path_factory):
    """A team whose agents have 3 and 2 of 3 actions, all padding better than any action."""
    folder = tmp_path_factory.mktemp("runs") / "unequal"
    settings = {**PAIR, "algo": "vdn", "env_steps": 24}
    done = tfmix.train(Unequal, run_dir=folder, env_workers=0, **settings)
    done.algorithm.live.agent.networks[0].head_bias.assign([0.0, 0.0, 99.0])
    done.export()
    return done


class Unequal(PythonCountdown):
    spec = dataclasses.replace(PythonCountdown.spec, agent_n_actions=(3, 2))

    def __init__(self):
        super().__init__(3)

    def _look(self):
        obs, state, _ = super()._look()
        return obs, state, np.asarray([[True, True, True], [True, True, False]])


def signatures_of(folder):
    return tf.saved_model.load(str(folder / "export")).signatures


def test_no_policy_takes_an_action_that_an_agent_does_not_have(unequal):
    everything = np.ones([2, 3], bool)
    for legal in (None, everything, everything.astype(int)):
        unequal.reset()
        first, second = unequal.act(np.ones([2, 1]), legal)
        assert first == 2 and second in (0, 1)
    unequal.reset()
    with pytest.raises(UserError, match="agent 1 cannot act: none of its own actions is legal"):
        unequal.act(np.ones([2, 1]), [[1, 1, 1], [0, 0, 1]])
    signatures = signatures_of(unequal.folder)
    hidden = signatures["initial_state"](batch_size=tf.constant(1))["hidden"]
    out = signatures["act"](obs=tf.ones([1, 2, 1]), legal=tf.fill([1, 2, 3], True), hidden=hidden)
    np.testing.assert_array_equal(out["action"], [[first, second]])
    for agent, action in enumerate((first, second)):
        alone = signatures["act_agent"](
            obs=tf.ones([1, 1]),
            legal=tf.fill([1, 3], True),
            hidden=hidden[:, agent],
            agent=tf.constant([agent]),
        )
        assert alone["action"].numpy() == [action]


def cannot_act(out, given, rows):
    """Action -1, no value and the hidden state unchanged in `rows` and in no others."""
    stuck = np.zeros(out["action"].shape, bool)
    stuck[rows] = True
    np.testing.assert_array_equal(out["action"].numpy() == -1, stuck)
    np.testing.assert_array_equal(np.isnan(out["q"]).all(-1), stuck)
    np.testing.assert_array_equal(np.isnan(out["q"]).any(-1), stuck)
    same = (out["hidden"].numpy() == given) | np.isnan(given)
    np.testing.assert_array_equal(same.all(-1), stuck)


def test_the_export_says_who_cannot_act_and_keeps_its_hidden_state(unequal):
    act = signatures_of(unequal.folder)["act"]
    size = unequal.algorithm.agent_spec.policy_state_size
    obs, legal = np.ones([6, 2, 1], np.float32), np.ones([6, 2, 3], bool)
    hidden = np.full([6, 2, size], 0.5, np.float32)
    obs[0, 1], obs[1, 0], obs[2] = np.nan, np.inf, [[3e38], [-3e38]]  # the last are numbers
    legal[3, 0], legal[4, 1] = False, [False, False, True]  # the last has padding alone
    hidden[5, 1, 0] = np.nan
    out = act(obs=tf.constant(obs), legal=tf.constant(legal), hidden=tf.constant(hidden))
    cannot_act(out, hidden, ([0, 1, 3, 4, 5], [1, 0, 0, 1, 1]))


def test_values_that_overflow_are_no_reason_to_act(unequal):
    weight = unequal.algorithm.live.agent.networks[0].head
    kept, hidden = (
        weight.numpy(),
        np.ones([1, 2, unequal.algorithm.agent_spec.policy_state_size], np.float32),
    )
    try:
        weight.assign(tf.fill(weight.shape, 3e38))
        unequal._policy_state = tf.constant(hidden)
        with pytest.raises(UserError, match="agent 0 has values that are not finite"):
            unequal.act(np.zeros([2, 1]))
        policy = ExportedPolicy(
            unequal.algorithm.agent_spec, unequal.algorithm.live.agent.read_weights()
        )
        out = policy.signatures()["act"](
            obs=tf.zeros([1, 2, 1]), legal=tf.fill([1, 2, 3], True), hidden=tf.constant(hidden)
        )
        cannot_act(out, hidden, ([0, 0], [0, 1]))
    finally:
        weight.assign(kept)


def test_the_exports_act_agent_refuses_an_index_that_is_no_agents(unequal):
    act = signatures_of(unequal.folder)["act_agent"]
    agent = tf.constant([-1, 0, 1, 2, 2**31 - 1])
    hidden = np.full([5, unequal.algorithm.agent_spec.policy_state_size], 0.5, np.float32)
    obs = np.asarray([[1.0], [np.nan], [1.0], [1.0], [1.0]], np.float32)
    legal = tf.fill([5, 3], True)
    out = act(obs=tf.constant(obs), legal=legal, hidden=tf.constant(hidden), agent=agent)
    cannot_act(out, hidden, [0, 1, 3, 4])


LONE_READER = """
import sys
sys.modules['tfmix'] = sys.modules['tf_agents'] = sys.modules['tf_keras'] = None
import numpy as np, tensorflow as tf
data = np.load(sys.argv[2])
policy = tf.saved_model.load(sys.argv[1])
act, alone = policy.signatures['act'], policy.signatures['act_agent']
hidden = policy.signatures['initial_state'](batch_size=tf.constant(4))['hidden']
assert hidden.shape == data['shape'] and not np.any(hidden)
single = [hidden[:, i] for i in range(3)]
for t in range(25):
    out = act(obs=data['obs'][t], legal=data['legal'][t], hidden=hidden)
    hidden = out['hidden']
    np.testing.assert_array_equal(out['action'], data['action'][t])
    np.testing.assert_allclose(out['q'], data['q'][t], atol=1e-4)
    for i in range(3):
        own = alone(obs=data['obs'][t][:, i], legal=data['legal'][t][:, i], hidden=single[i],
                    agent=tf.fill([4], i))
        single[i] = own['hidden']
        np.testing.assert_array_equal(own['action'], data['action'][t][:, i])
        np.testing.assert_allclose(own['q'], data['q'][t][:, i], atol=1e-4)
"""


def test_the_export_acts_alike_where_neither_tfmix_nor_tf_agents_can_be_imported(trained, tmp_path):
    algorithm, random = trained.algorithm, np.random.default_rng(1)
    obs = random.normal(size=[25, 4, 3, 18]).astype(np.float32)
    legal = random.random([25, 4, 3, 5]) < 0.6
    legal[..., 0] = True
    policy_state = tf.zeros([4, 3, algorithm.agent_spec.policy_state_size])
    actions, qs = [], []
    for t in range(25):
        action, q, policy_state = algorithm.act(
            tf.constant(obs[t]), tf.constant(legal[t]), policy_state
        )
        actions.append(action)
        qs.append(q)
    np.savez(
        tmp_path / "x.npz", obs=obs, legal=legal, action=actions, q=qs, shape=policy_state.shape
    )
    command = [sys.executable, "-c", LONE_READER, trained.folder / "export", tmp_path / "x.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_export_names_its_inputs_and_outputs(trained):
    policy = tf.saved_model.load(str(trained.folder / "export"))
    shapes = {
        name: {key: value.shape.as_list() for key, value in kind.items()}
        for name, signature in policy.signatures.items()
        for kind in (signature.structured_input_signature[1],)
    }
    assert shapes["act"] == {"obs": [None, 3, 18], "legal": [None, 3, 5], "hidden": [None, 3, 13]}
    assert shapes["act_agent"] == {
        "obs": [None, 18],
        "legal": [None, 5],
        "hidden": [None, 13],
        "agent": [None],
    }
    outputs = {n: sorted(s.structured_outputs) for n, s in policy.signatures.items()}
    assert outputs["act"] == outputs["act_agent"] == ["action", "hidden", "q"]
    assert outputs["initial_state"] == ["hidden"]


@pytest.mark.parametrize(
    "kind",
    [
        {"recurrent": False, "last_action": False},  # carries nothing at all
        {"share_parameters": False},
    ],
    ids=str,
)
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


def test_an_export_that_acts_otherwise_is_refused(trained, tmp_path):
    from tfmix.runs import export

    weight = trained.algorithm.live.agent.networks[0].head_bias
    other = tf.saved_model.load(str(export.export(trained.algorithm, tmp_path / "x"))).signatures
    kept = weight.numpy()
    try:
        weight.assign_add(tf.range(5, dtype=tf.float32))
        with pytest.raises(RuntimeError, match="does not act like the live policy"):
            export.compare_with_live(trained.algorithm, other)
    finally:
        weight.assign(kept)


def stop_at(env_steps, monkeypatch):
    """Sessions end in the first collection's updates from `env_steps` on."""
    stop_when(lambda trainer: trainer.env_steps() >= env_steps, monkeypatch)


def stop_when(reached, monkeypatch):
    """Sessions end as soon as `reached`, asked after each update, says so of the trainer."""
    kept = Session.__init__

    def stopping(self, trainer, folder, seconds, should_stop, reported=None):
        kept(self, trainer, folder, seconds, lambda: reached(trainer), reported)

    monkeypatch.setattr("tfmix.training.trainer.CALL_SECONDS", 0.0)
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


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("lane", ["graph", "python"])
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


def test_a_call_does_no_more_updates_than_it_may_and_the_rest_is_the_same_run():
    chosen = resolve.resolve({"algo": "vdn", "env": "two_step", "updates_per_episode": 3, **SMALL})
    trainer = Trainer(open_task(chosen))
    counters, found = trainer.counters, []
    for limit in (10**6, 5):
        trainer.restart(0)
        while trainer.env_steps() < 96 or trainer.owes_updates():  # 16 a collection
            before, left = int(counters.updates), (96 - trainer.env_steps()) // 16
            well, due = trainer.run_iterations(tf.constant(left), tf.constant(limit, tf.int64))
            assert well and int(due) == int(trainer._updates_due())
            assert int(counters.updates) - before <= limit
        assert trainer.env_steps() == 96 and int(counters.updates) == (48 - 8) * 3
        assert trainer.run_iterations.experimental_get_tracing_count() == 1
        found.append([x.numpy() for x in trainer.algorithm.live.variables])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


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


def test_a_new_end_of_a_decaying_step_size_is_reported(tmp_path, capsys, builds):
    settings = {"algo": "vdn", "env_steps": 200, **PAIR}
    settings |= {"learning_rate": 1e-2, "learning_rate_decay": "linear"}
    tfmix.train("two_step", run_dir=tmp_path / "x", **settings)
    assert float(rows_of(tmp_path / "x")[-1]["learning_rate"]) == 0.0
    capsys.readouterr()
    tfmix.resume(tmp_path / "x", env_steps=400)
    told = capsys.readouterr().err
    assert "linear ends at 400 env steps, not at 200: the step size at 200 is 0.005 inst" in told
    rates = [float(row["learning_rate"]) for row in rows_of(tmp_path / "x")]
    assert 0.0 == rates[-1] < max(rates[-5:]) < 5e-3
    tfmix.resume(tmp_path / "x", env_steps=400)
    assert "step size" not in capsys.readouterr().err


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


def test_a_run_folder_serves_one_process_at_a_time(trained):
    refused = pytest.raises(UserError, match="is in use: another process trains there")
    with folders.locked(trained.folder, "a test"), refused:
        tfmix.resume(trained.folder, env_steps=5000)


def test_a_disk_that_is_full_leaves_the_checkpoint_before_whole(copied):
    tensors = tf.train.Checkpoint(x=tf.Variable(tf.zeros([100_000])))
    place = copied / "checkpoints"
    before = checkpoint.latest(place)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
        with pytest.raises(OSError, match="too large"):
            checkpoint.save(place, tensors, 5000, 1.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    assert checkpoint.latest(place) == before and not (place / ".writing").exists()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_checkpoint_of_an_earlier_format_opens(copied, trained, number):
    kept = trained.trainer
    types = [tf.float32] * 2 + [tf.bool, tf.int32] + [tf.float32] * 3 + [tf.int64] * 2
    variables = kept.replay.variables()
    types = [x.dtype for x in variables] if number == 3 else types
    rows = [tf.Variable(tf.cast(x, old)) for x, old in zip(variables, types, strict=True)]
    scale = kept.learner.reward_scale
    kept_of_scale = {name: getattr(scale, name) for name in ("count", "mean", "square")}
    old = tf.train.Checkpoint(
        live=kept.algorithm.live,
        target=kept.algorithm.target,
        optimizer=kept.learner.optimizer,
        reward_scale=tf.train.Checkpoint(**kept_of_scale),
        counters=kept.counters,
        seed=kept.seed,
        **{f"replay_{i}": v for i, v in enumerate(rows)},
        **({"sums": kept.accumulator} if number > 1 else {}),
    )
    newest = checkpoint.latest(copied / "checkpoints")
    for file in newest.iterdir():
        file.unlink()
    old.write(str(newest / "tensors"))
    sums = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in newest.iterdir()}
    manifest = {"env_steps": 4000, "seconds": 1.5, "sha256": sums}
    text = (
        json.dumps(manifest, indent=1)
        if number == 1
        else checkpoint._text({"format": number, **manifest})
    )
    (newest / "manifest.json").write_text(text)
    loaded = tfmix.load(copied)
    assert loaded.env_steps == 4000 and checkpoint.seconds_of(newest) == 1.5
    for module in ("live", "target"):
        read, given = (getattr(x.trainer.algorithm, module).variables for x in (loaded, trained))
        for a, b in zip(read, given, strict=True):
            np.testing.assert_array_equal(a, b)
    for a, b in zip(loaded.trainer.replay.variables(), kept.replay.variables(), strict=True):
        np.testing.assert_array_equal(a, b)
    read = loaded.trainer.learner.reward_scale
    assert float(read.count) == 4000.0 and float(read.square) == float(scale.square) > 0.0
    # What the smallest and largest reward were is not known: no floor.
    np.testing.assert_allclose(read.apply(read.mean + tf.sqrt(read.square / read.count)), 1.0)


def test_a_checkpoint_of_format_3_of_other_networks_is_refused(copied):
    newest = checkpoint.latest(copied / "checkpoints")
    manifest = checkpoint.read_manifest(newest) | {"format": 3}
    (newest / "manifest.json").write_text(checkpoint._text(manifest))
    about = json.loads((copied / "run.json").read_text())
    about["config"]["algo"] = "qplex"
    (copied / "run.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="does not fit this run's settings"):
        tfmix.load(copied)


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
    with pytest.raises(UserError, match="give it with env="):
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


def test_a_random_team_plays_in_either_lane(trained):
    random = trained.evaluate(64, epsilon=1)
    assert random.shape == (64,) and -130 < random.mean() < -50


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


@pytest.fixture
def copied(trained, tmp_path):
    return Path(shutil.copytree(trained.folder, tmp_path / "copy"))


def test_damaged_checkpoints_are_noticed_and_the_one_before_is_used(copied, capsys):
    checkpoints = copied / "checkpoints"
    newest = checkpoint.latest(checkpoints)
    older = Path(shutil.copytree(newest, checkpoints / "2000"))
    manifest = checkpoint.read_manifest(newest) | {"env_steps": 2000}
    (older / "manifest.json").write_text(checkpoint._text(manifest))
    data = newest / "tensors.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    assert checkpoint.latest(checkpoints) == older
    assert "is damaged" in capsys.readouterr().err
    (older / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"all checkpoints .* are damaged: delete"):
        tfmix.load(copied)


def test_a_checkpoint_of_a_newer_tfmix_is_left_alone(copied):
    newest = checkpoint.latest(copied / "checkpoints")
    manifest = checkpoint.read_manifest(newest) | {"format": checkpoint.FORMAT + 1}
    (newest / "manifest.json").write_text(checkpoint._text(manifest))
    with pytest.raises(UserError, match="written by a newer tfmix; update tfmix"):
        tfmix.resume(copied)


def test_a_checkpoint_of_other_networks_is_refused_in_one_line(copied):
    about = json.loads((copied / "run.json").read_text())
    about["config"]["hidden_size"] = 9
    (copied / "run.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="does not fit this run's settings") as caught:
        tfmix.load(copied)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 1}', "\x00\x01", '{"format": 99, "versions": {"tfmix": "9"}}'],
)
def test_a_damaged_run_json_is_one_line(copied, text):
    (copied / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"damaged|newer"):
        tfmix.load(copied)


@pytest.mark.parametrize(
    "words,message",
    [
        (["--algo=qtran-al"], "did you mean 'qtran_alt'"),
        (["--env=mpe/simple_sprad"], "did you mean 'mpe/simple_spread'"),
        (["--env_step=3"], "env_steps"),
        (["train"], "stray word 'train'"),
        (["--env_steps=many"], "--env_steps"),
        (["--epsilon_end=2"], "a number from 0 to 1"),
        (["--env=matrix/custom", "--env_arg=payoff=[[1,2],[3]]"], "full array"),
        (["--mode=fly"], "--mode"),
        (["--mode=evaluate"], "needs --run_dir"),
        (["--mode=resume", "--run_dir=no/such"], "there is no run in no/such"),
        (["--mode=evaluate", "--run_dir=x", "--gamma=0.5"], "--gamma cannot be set"),
    ],
)
def test_main_answers_a_wrong_request_with_one_line_and_exit_code_2(words, message, main_py):
    done = main_py(*words)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and message in done.stderr
    assert "Traceback" not in done.stderr


LIST = pytest.param("--mode=list", marks=pytest.mark.slow)  # which imports TensorFlow


@pytest.mark.parametrize("words", ["--help", LIST, "--mode=resume"])
@pytest.mark.parametrize("streams", ["| true", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full"])
def test_main_shows_no_traceback_if_its_streams_are_gone(words, streams, tmp_path):
    """Exit code 0 or 2 as ever; 1 and a line if the disk is full beneath the answer."""
    script = f'"$0" "$1" {words} {streams}; echo "code ${{PIPESTATUS[0]}}" > code'
    command = ["bash", "-c", script, sys.executable, str(ROOT / "main.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    wrong, full = words == "--mode=resume", streams == ">/dev/full"
    code = 2 if wrong else 1 if full else 0
    assert (tmp_path / "code").read_text() == f"code {code}\n"
    if code and "2>&-" not in streams:
        assert done.stderr.count("\n") == 1 and done.stderr.startswith("tfmix: ")
        assert wrong or "standard output: No space left on device" in done.stderr
    else:
        assert done.stderr == ""


@pytest.mark.parametrize(
    "streams",
    [
        pytest.param("2>&1 | true", marks=pytest.mark.slow, id="pipe"),
        pytest.param(">/dev/full 2>/dev/full", marks=pytest.mark.slow, id="full"),
        pytest.param("<&- >&- 2>&-", id="&-"),
    ],
)
def test_main_saves_and_exports_a_training_whose_streams_are_gone(streams, tmp_path):
    words = "--algo=vdn --env=two_step --env_steps=200 --hidden_size=8 --run_dir=run"
    script = f'"$0" "$1" {words} {streams}; echo "code ${{PIPESTATUS[0]}}" > code'
    command = ["bash", "-c", script, sys.executable, str(ROOT / "main.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (tmp_path / "code").read_text() == "code 0\n" and done.stderr == ""
    assert folders.is_finished(tmp_path / "run", 200)
    assert len(rows_of(tmp_path / "run")) > 10


FLAGGED = """
from absl import flags
flags.DEFINE_integer("seed", 1, "mine")
flags.DEFINE_integer("size", 2, "mine")
def make(**arguments):
    from pettingzoo.mpe import simple_spread_v3
    return simple_spread_v3.parallel_env(N=flags.FLAGS.size, max_cycles=flags.FLAGS.seed + 4)
"""


def test_flags_of_the_users_module_do_not_matter_and_have_their_defaults(tmp_path):
    (tmp_path / "flagged.py").write_text(FLAGGED)
    words = ["--mode=check_env", "--env=flagged:make", "--seed=3", "--env_workers=0"]
    command = [sys.executable, str(ROOT / "main.py"), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "agents        2: " in done.stdout


def test_sys_exit_on_the_way_is_one_line_and_exit_code_1(monkeypatch, capsys):
    def leave(*_):
        sys.exit(0)

    monkeypatch.setattr(cli, "dispatch", leave)
    assert cli.main(["--env=two_step"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "tfmix: sys.exit(0) was called" in err


def test_what_an_error_says_obeys_no_terminal_with_its_traceback_either(monkeypatch, capsys):
    class UnspeakableError(Exception):
        def __str__(self):
            raise ValueError

    for error in (KeyError("\x1b[2J\r\n" * 10**6), UnspeakableError(), KeyboardInterrupt()):
        monkeypatch.setattr(cli, "dispatch", mock.Mock(side_effect=error))
        code = 130 if isinstance(error, KeyboardInterrupt) else 1
        assert cli.main(["--env=two_step"]) == code
        plain = capsys.readouterr().err
        assert cli.main(["--env=two_step", "--debug"]) == code
        traced = capsys.readouterr().err
        assert plain.startswith("tfmix: ") and plain.count("\n") == 1
        assert traced.startswith("Traceback") and traced.endswith(plain)
        assert "\x1b" not in traced and "\r" not in traced and len(traced) < 10**6


def test_main_shows_its_help_and_what_there_is(main_py):
    shown = main_py("--help")
    assert shown.returncode == 0 and "--updates_per_episode" in shown.stdout
    names = main_py("--mode=list").stdout
    for name in ("qtran_alt", "two_step", "matrix/qtran", "mpe/simple_spread", "pettingzoo/"):
        assert name in names


def test_main_trains_refuses_to_overwrite_evaluates_and_exports(tmp_path, main_py):
    folder = tmp_path / "run"
    words = ["--algo=qtran_alt", "--env=matrix/qtran", "--env_steps=400", f"--run_dir={folder}"]
    words += ["--hidden_size=8", "--qtran_embed=8", "--eval_episodes=8"]
    done = main_py(*words)
    assert done.returncode == 0, done.stderr
    assert "device: " in done.stdout and "seed 0" in done.stdout
    assert "greedy return" in done.stdout and "a random team" in done.stdout
    assert all(
        " of 400 env steps" in line or re.fullmatch(r"[a-z]+ \.\.\.", line)
        for line in done.stderr.splitlines()
    )
    assert {"compiling ...", "evaluating ...", "exporting ..."} <= set(done.stderr.splitlines())
    before = (folder / "metrics.csv").read_bytes()
    again = main_py(*words)
    assert again.returncode == 2 and "already holds a run" in again.stderr
    assert (folder / "metrics.csv").read_bytes() == before
    shown = main_py("--mode=evaluate", f"--run_dir={folder}", "--eval_episodes=5")
    assert shown.returncode == 0 and "over 5 episodes" in shown.stdout
    shutil.rmtree(folder / "export")
    exported = main_py("--mode=export", f"--run_dir={folder}")
    assert exported.returncode == 0 and (folder / "export" / "saved_model.pb").is_file()
    finished = main_py("--mode=resume", f"--run_dir={folder}")
    assert finished.returncode == 0 and (folder / "metrics.csv").read_bytes() == before


def test_a_stopped_process_saves_and_says_how_to_go_on(tmp_path):
    folder = tmp_path / "run"
    words = ["--algo=vdn", "--env=two_step", "--env_steps=100000000", f"--run_dir={folder}"]
    command = [sys.executable, str(ROOT / "main.py"), *words, "--log_period_env_steps=1000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(rows_of_or_none(folder)) < 3:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == STOPPED and "tfmix: stopping after" in err
    assert f"--mode=resume --run_dir={folder}" in out
    # It may stop between two rows: going on writes the row that would have come.
    assert tfmix.load(folder).env_steps >= int(rows_of(folder)[-1]["env_steps"])


def rows_of_or_none(folder):
    return rows_of(folder) if (folder / "metrics.csv").exists() else []
