"""Exports: the contract, the signatures, the formats, equality in processes without tfmix."""

import json
import subprocess
import sys

import numpy as np
import pytest
import serving_envs
import serving_tools
import tensorflow as tf

import tfmix
from tfmix import envs
from tfmix.config.schema import Config
from tfmix.envs.python.adapters.custom import adapt
from tfmix.envs.python.workers.progress import Progress
from tfmix.envs.python.workers.worker import describe_env
from tfmix.errors import RunFailedError, UserError
from tfmix.monitoring.metrics_csv import EVALUATIONS, read_columns
from tfmix.runs import export, folders, formats
from tfmix.serving.contract import FILES, NO_ACTION, Contract
from tfmix.serving.runtimes import open_signatures
from tfmix.training.collect_python import env_seed
from tfmix.training.seeds import Stream

pytestmark = pytest.mark.whole_run

STEPS, B = 25, 4
ENV = "serving_envs:Relay"


@pytest.fixture(scope="module")
def relay(tmp_path_factory):
    """A trained team of unequal agents with masks; its export holds every format possible here."""
    folder = tmp_path_factory.mktemp("runs") / "relay"
    run = tfmix.train(
        ENV,
        "qmix",
        run_dir=folder,
        seed=4,
        env_steps=240,
        env_workers=0,
        n_envs=4,
        episode_limit=serving_envs.LIMIT,
        hidden_size=8,
        batch_episodes=8,
        eval_episodes=4,
        eval_period_env_steps=120,
        mixer_embed=4,
        hypernet_embed=4,
    )
    run.export([name for name in formats.TITLES if not formats.missing(name)])
    return run


def there(run, name):
    """Skips if the export lacks a format because a package is missing."""
    if name not in Contract.read(run.folder / "export").formats:
        pytest.skip(f"{name} needs {' and '.join(formats.missing(name))}")


def test_the_contract_says_what_the_export_holds(relay):
    folder = relay.folder / "export"
    about = json.loads((folder / "contract.json").read_text())
    assert about["algorithm"] == "qmix" and about["environment"] == ENV
    assert about["seed"] == 4 and about["env_steps"] == relay.env_steps == 240
    assert about["tfmix"] == tfmix.__version__ and about["no_action"] == NO_ACTION
    assert about["agents"] == [
        {"name": "scout", "obs_size": 3, "n_actions": 2},
        {"name": "carrier", "obs_size": 2, "n_actions": 4},
    ]
    assert about["sizes"] == {"n_agents": 2, "obs_size": 3, "n_actions": 4, "hidden_size": 12}
    columns = read_columns(relay.folder / "evaluations.csv", EVALUATIONS)
    last = columns["return"][columns["env_steps"] == 240]
    assert len(last) == 4 and about["greedy_return"] == pytest.approx(last.mean())
    assert set(about["files"]) == set(Contract.read(folder).formats)
    for files in about["files"].values():
        assert all((folder / file).exists() for file in files.values())
    # The SavedModel holds it too.
    assert (folder / "assets" / "contract.json").read_text() == json.dumps(about, indent=1) + "\n"
    loaded = tf.saved_model.load(str(folder))
    assert loaded.contract.asset_path.numpy().decode().endswith("assets/contract.json")


def test_the_contracts_signatures_are_those_of_the_saved_model(relay):
    about = json.loads((relay.folder / "export" / "contract.json").read_text())
    loaded = tf.saved_model.load(str(relay.folder / "export"))
    assert set(about["signatures"]) == set(loaded.signatures)
    for name, signature in loaded.signatures.items():
        found = (signature.structured_input_signature[1], signature.structured_outputs)
        for kind, specs in zip(("inputs", "outputs"), found, strict=True):
            assert {
                key: {
                    "dtype": spec.dtype.name,
                    "shape": [size or "B" for size in spec.shape.as_list()],
                }
                for key, spec in specs.items()
            } == about["signatures"][name][kind], name
    one = loaded.signatures["initial_state_agent"](batch_size=tf.constant(3))["hidden"]
    assert one.shape == (3, 12) and not np.any(one)


def test_the_best_team_has_its_own_contract(relay):
    best = Contract.read(relay.folder / "export_best")
    columns = read_columns(relay.folder / "evaluations.csv", EVALUATIONS)
    returns = {
        at: columns["return"][columns["env_steps"] == at].mean()
        for at in np.unique(columns["env_steps"])
    }
    assert best.greedy_return == pytest.approx(max(returns.values()))
    assert returns[best.env_steps] == max(returns.values()) and best.names == ["scout", "carrier"]


def test_an_older_run_json_without_agents_gives_them_names(relay, tmp_path):
    about = json.loads((relay.folder / "run.json").read_text())
    assert [agent["name"] for agent in about["agents"]] == ["scout", "carrier"]
    for agents, names in (
        (None, ["agent_0", "agent_1"]),
        ([{"name": "a", "obs_size": 1}, {"name": "b", "obs_size": 3}], ["a", "b"]),
    ):
        about["agents"] = agents
        (tmp_path / "run.json").write_text(json.dumps(about))
        assert [agent.name for agent in folders.agents_of(tmp_path)] == names
    for wrong in (
        [{"name": "a", "obs_size": 1}],
        [{"name": "a", "obs_size": 1}] * 2,
        [{"name": "a", "obs_size": 1}, {"name": 3, "obs_size": 3}],
        [{"name": "a", "obs_size": 1}, {"name": "b", "obs_size": 4}],
        [{"name": "a", "obs_size": 1}, {"name": "\x1b", "obs_size": 3}],
        "ab",
        7,
    ):
        about["agents"] = wrong
        (tmp_path / "run.json").write_text(json.dumps(about))
        with pytest.raises(UserError, match=r"run\.json is damaged: agents: "):
            folders.agents_of(tmp_path)


def test_agents_have_the_names_of_their_environment_or_numbers():
    from tfmix.envs.agents import agent_shapes
    from tfmix.types import AgentShape

    class Env:
        def __init__(self, names=(), sizes=()):
            self.agent_names, self.agent_obs_sizes = names, sizes
            self.spec = tfmix.types.EnvSpec("x", 2, 2, 5, 1, 1, (2, 2))

    named = (AgentShape("a", 5), AgentShape("b", 5))
    assert agent_shapes(Env("ab")) == named
    numbered = (AgentShape("agent_0", 5), AgentShape("agent_1", 5))
    for names in ((), range(2), "aa", ("a", 1), "abc", ("", "b")):
        assert agent_shapes(Env(names)) == numbered
    assert [one.obs_size for one in agent_shapes(Env((), (2, 5)))] == [2, 5]
    for sizes in ((2,), (2, 6), (-1, 5), (2.0, 5), 5, "25"):
        assert agent_shapes(Env(len, sizes)) == numbered
    talk = envs.make_graph("mpe/simple_speaker_listener", Config())
    assert agent_shapes(talk) == (AgentShape("speaker_0", 3), AgentShape("listener_0", 11))


def test_workers_report_the_shapes_of_their_agents():
    env = adapt(serving_envs.Relay(), "relay", "sum", 0)
    about = describe_env(env, "relay", Progress.of_this_process())
    assert about.shapes == (("scout", 3), ("carrier", 2))


# Formats.


def test_formats_are_read_and_wrong_ones_are_one_clear_line(monkeypatch, main_py, relay):
    assert formats.read_formats("tflite") == ("saved_model", "tflite")
    assert formats.read_formats(["saved_model"]) == ("saved_model",)
    for wrong, near in (("tf_lite", "tflite"), ("SavedModel", "saved_model"), ("onx", "onnx")):
        with pytest.raises(UserError, match=f"--format={wrong}: .*did you mean '{near}'"):
            formats.read_formats(wrong)
    with pytest.raises(UserError, match="format='3': there is no such format; there are"):
        relay.export(3)
    with pytest.raises(UserError, match="format='': there is no such format; there are"):
        relay.export("")
    monkeypatch.setattr(formats, "NEEDS", {"onnx": {"no_such_module": "its-package"}})
    with pytest.raises(UserError, match=r"--format=onnx needs its-package: pip install -r req"):
        formats.read_formats("tflite,onnx")
    done = main_py("--mode=export", f"--run_dir={relay.folder}", "--format=tflit")
    assert done.returncode == 2 and "did you mean 'tflite'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = main_py("--mode=evaluate", f"--run_dir={relay.folder}", "--format=tflite")
    assert done.returncode == 2 and "--format is for --mode=export" in done.stderr


def test_a_format_that_acts_otherwise_is_refused_and_the_export_stays(relay, monkeypatch):
    before = {p: p.read_bytes() for p in (relay.folder / "export").rglob("*") if p.is_file()}
    other = open_signatures(relay.folder / "export")

    def wrong(folder, name):
        if name == "saved_model":
            return open_signatures(folder, name)
        return {**other, "act_agent": lambda **x: {**other["act_agent"](**x), "q": x["legal"]}}

    monkeypatch.setattr(export, "open_signatures", wrong)
    with pytest.raises(RunFailedError, match="act_agent as TensorFlow Lite does not act like"):
        relay.export("tflite")
    monkeypatch.setattr(formats, "_tflite", lambda folder: 1 / 0)
    with pytest.raises(RunFailedError, match="cannot be converted to TensorFlow Lite: ZeroDiv"):
        relay.export("tflite")
    after = {p: p.read_bytes() for p in (relay.folder / "export").rglob("*") if p.is_file()}
    assert after == before and not (relay.folder / ".export-writing").exists()


@pytest.mark.parametrize("name", FILES)
def test_every_format_says_who_cannot_act(relay, name):
    there(relay, name)
    functions = open_signatures(relay.folder / "export", name)
    obs, hidden = np.ones([6, 2, 3], np.float32), np.full([6, 2, 12], 0.5, np.float32)
    legal = np.ones([6, 2, 4], bool)
    obs[0, 1, 2], obs[1, 0, 0], hidden[2, 1, 3] = np.nan, np.inf, np.nan
    legal[3, 0], legal[4, 0] = False, [False, False, True, True]  # the last has padding alone
    stuck = np.zeros([6, 2], bool)
    stuck[[0, 1, 2, 3, 4], [1, 0, 1, 0, 0]] = True

    def check(out, stuck, legal, hidden):
        np.testing.assert_array_equal(out["action"] == NO_ACTION, stuck)
        np.testing.assert_array_equal(np.isnan(out["q"]).all(-1), stuck)
        np.testing.assert_array_equal(out["hidden"][stuck], hidden[stuck])
        assert np.isfinite(out["hidden"][~stuck]).all()
        chosen = np.take_along_axis(legal, np.maximum(out["action"], 0)[..., None], -1)[..., 0]
        assert chosen[~stuck].all()

    check(functions["act"](obs=obs, legal=legal, hidden=hidden), stuck, legal, hidden)
    agent = np.asarray([0, 1, 1, -1, 2, 2**31 - 1], np.int32)
    out = functions["act_agent"](
        obs=np.ones([6, 3], np.float32),
        legal=np.ones([6, 4], bool),
        hidden=np.full([6, 12], 0.5, np.float32),
        agent=agent,
    )
    np.testing.assert_array_equal(out["action"] == NO_ACTION, [0, 0, 0, 1, 1, 1])
    assert out["action"][0] < 2  # the scout has two actions


# Equality over recurrent steps, in processes that cannot import tfmix.

COMMON = """
import sys
for name in ('tfmix', 'tf_agents', 'tf_keras'):
    sys.modules[name] = None
import numpy as np
folder, data = sys.argv[1], np.load(sys.argv[2])

def play(act):
    hidden = np.zeros(data['hidden'].shape[1:], np.float32)
    for t, (obs, legal) in enumerate(zip(data['obs'], data['legal'])):
        action, q, hidden = act(obs, legal, hidden)
        np.testing.assert_array_equal(action, data['action'][t])
        np.testing.assert_allclose(q, data['q'][t], atol=1e-5)
        np.testing.assert_allclose(hidden, data['hidden'][t], atol=1e-5)
    print('equal', t + 1)
"""
READERS = {
    "tensorflow": """
import tensorflow as tf
policy = tf.saved_model.load(folder)
def act(obs, legal, hidden):
    out = policy.signatures['serving_default'](
        obs=tf.constant(obs), legal=tf.constant(legal), hidden=tf.constant(hidden))
    return out['action'], out['q'], out['hidden']
play(act)
""",
    "tflite": """
try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    import tensorflow as tf
    Interpreter = tf.lite.Interpreter
runner = Interpreter(folder + '/policy.tflite').get_signature_runner('act')
def act(obs, legal, hidden):
    out = runner(obs=obs, legal=legal, hidden=hidden)
    return np.array(out['action']), np.array(out['q']), np.array(out['hidden'])
play(act)
""",
    "onnx": """
import onnxruntime
session = onnxruntime.InferenceSession(folder + '/act.onnx')
def act(obs, legal, hidden):
    inputs = {'obs': obs, 'legal': legal, 'hidden': hidden}
    return session.run(['action', 'q', 'next_hidden'], inputs)
play(act)
""",
    "openvino": """
import openvino
core = openvino.Core()
model = core.compile_model(core.read_model(folder), 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
def act(obs, legal, hidden):
    out = model({'obs': obs, 'legal': legal, 'hidden': hidden})
    return [out[i] for i in (0, 2, 1)]
play(act)
""",
}


@pytest.fixture(scope="module")
def recorded(relay, tmp_path_factory):
    """Episodes of random observations and masks, and what the live policy does."""
    algorithm, random = relay.algorithm, np.random.default_rng(1)
    obs = random.normal(size=[STEPS, B, 2, 3]).astype(np.float32)
    legal = random.random([STEPS, B, 2, 4]) < 0.6
    legal[..., 0] = True
    state, kept = tf.zeros([B, 2, 12]), {"action": [], "q": [], "hidden": []}
    own = legal & np.asarray(relay.spec.own_actions)
    for t in range(STEPS):
        action, q, state = algorithm.act(tf.constant(obs[t]), tf.constant(own[t]), state)
        for name, value in (("action", action), ("q", q), ("hidden", state)):
            kept[name].append(value)
    path = tmp_path_factory.mktemp("recorded") / "x.npz"
    np.savez(path, obs=obs, legal=legal, **kept)
    return path


@pytest.mark.parametrize("runtime", READERS)
def test_every_runtime_acts_alike_in_a_process_without_tfmix(relay, recorded, runtime, tmp_path):
    if runtime == "openvino":
        pytest.importorskip("openvino", reason="openvino is not installed")
    else:
        there(relay, {"tensorflow": "saved_model"}.get(runtime, runtime))
    command = [sys.executable, "-c", COMMON + READERS[runtime], relay.folder / "export", recorded]
    done = subprocess.run([*map(str, command)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == f"equal {STEPS}"


# A service.


def play_through(client, seed):
    """Plays an episode through a REST server and returns its return."""
    env = serving_envs.Relay()
    observations, infos = env.reset(seed=seed)
    total, first = 0.0, True
    while env.agents:
        obs, legal = np.zeros([1, 2, 3], np.float32), np.zeros([1, 2, 4], bool)
        for i, agent in enumerate(env.possible_agents):
            obs[0, i, : env.sizes[agent]] = observations[agent]
            legal[0, i, : env.counts[agent]] = infos[agent]["action_mask"]
        status, out = client.act(
            "act", {"obs": obs, "legal": legal}, sequence_id=f"game {seed}", sequence_start=first
        )
        assert status == 200, out
        first, action = False, out["action"][0]
        chosen = {agent: int(action[i]) for i, agent in enumerate(env.possible_agents)}
        observations, rewards, _, _, infos = env.step(chosen)
        total += sum(rewards.values())
    return total


def test_the_return_through_a_server_is_that_of_evaluate(relay, main_py):
    episodes = 6
    wanted = relay.evaluate(episodes)
    seeds = [
        env_seed(np.random.SeedSequence([relay.config.seed, Stream.SUMMARY, i]))
        for i in range(episodes)
    ]
    with serving_tools.rest(relay.folder / "export") as client:
        found = [play_through(client, seed) for seed in seeds]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    words = ["--mode=evaluate", f"--run_dir={relay.folder}", f"--env={ENV}"]
    shown = main_py(*words, f"--eval_episodes={episodes}").stdout
    assert f"greedy return {np.mean(found):.2f} over {episodes} episodes" in shown
