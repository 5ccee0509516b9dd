"""Runs as a user has them: look at the folder, load, act, evaluate, export; checkpoints."""

import csv
import dataclasses
import hashlib
import json
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import tfmix
from tests.training.test_collect import PythonCountdown
from tfmix.errors import UserError
from tfmix.runs import checkpoint, folders
from tfmix.runs.export import ExportedPolicy

pytestmark = pytest.mark.whole_run

ROOT = Path(__file__).resolve().parents[2]
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


def test_an_export_that_acts_otherwise_is_refused(trained, tmp_path):
    from tfmix.runs import export

    weight = trained.algorithm.live.agent.networks[0].head_bias
    contract = export.describe(trained.algorithm, trained.folder, trained.env_steps)
    written = export.export(trained.algorithm, tmp_path / "x", contract)
    other = tf.saved_model.load(str(written)).signatures
    kept = weight.numpy()
    try:
        weight.assign_add(tf.range(5, dtype=tf.float32))
        with pytest.raises(RuntimeError, match="does not act like the live policy"):
            export.compare_with_live(trained.algorithm, other)
    finally:
        weight.assign(kept)


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


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_checkpoint_of_an_earlier_format_opens(copied, trained, number):
    kept = trained.trainer
    types = [tf.float32] * 2 + [tf.bool, tf.int32] + [tf.float32] * 3 + [tf.int64] * 2
    variables = kept.replay.variables()
    types = [x.dtype for x in variables] if number >= 3 else types
    rows = [tf.Variable(tf.cast(x, old)) for x, old in zip(variables, types, strict=True)]
    scale = kept.learner.reward_scale
    fields = ("count", "mean", "square", *(("lowest", "highest") if number == 4 else ()))
    kept_of_scale = {name: getattr(scale, name) for name in fields}
    fields = ("returns", "episodes", "metrics", "updates")
    sums = tf.train.Checkpoint(**{name: getattr(kept.accumulator, name) for name in fields})
    old = tf.train.Checkpoint(
        live=kept.algorithm.live,
        target=kept.algorithm.target,
        optimizer=kept.learner.optimizer,
        reward_scale=tf.train.Checkpoint(**kept_of_scale),
        counters=kept.counters,
        seed=kept.seed,
        **{f"replay_{i}": v for i, v in enumerate(rows)},
        **({"sums": sums} if number > 1 else {}),
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
    if number == 4:
        return
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


def test_a_random_team_plays_in_either_lane(trained):
    random = trained.evaluate(64, epsilon=1)
    assert random.shape == (64,) and -130 < random.mean() < -50


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
