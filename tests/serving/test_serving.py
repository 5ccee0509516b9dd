"""Serving an export: `Policy`, and the two servers of examples/serve in processes."""

import concurrent.futures
import contextlib
import copy
import http.client
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import serving_tools
import tensorflow as tf
from serving_tools import tensor

import tfmix
from tfmix.config.schema import Config
from tfmix.errors import UserError
from tfmix.runs import export, formats
from tfmix.serving import Contract, Policy
from tfmix.serving.contract import Agent
from tfmix.training.team import make_algorithm
from tfmix.types import EnvSpec

pytestmark = pytest.mark.whole_run

ROOT = Path(__file__).resolve().parents[2]
OBS = {"scout": [1.0, 2.0, 3.0], "carrier": [0.5, -0.5]}
LEGAL = {"scout": [1, 1], "carrier": [True, False, True, False]}


def untrained(place, made, **settings):
    """Exports an untrained team: a scout with 2 actions and a carrier with 4."""
    spec = EnvSpec("relay", 2, 4, 3, 6, 6, (2, 4))
    algorithm = make_algorithm(Config(algo="vdn", hidden_size=8, **settings), spec)
    contract = Contract(
        **{"algorithm": "vdn", "environment": "relay", "seed": 0, "env_steps": 0},
        **{"greedy_return": None, "tfmix": tfmix.__version__, "git_commit": ""},
        **{"obs_size": 3, "n_actions": 4},
        hidden_size=algorithm.agent_spec.policy_state_size,
        agents=(Agent("scout", 3, 2), Agent("carrier", 2, 4)),
        formats=made,
    )
    return export.export(algorithm, place / "export", contract)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("exports"), ("saved_model", "tflite"))


@pytest.fixture(scope="module")
def policy(folder):
    return Policy(folder)


def arrays(rows=1, seed=0):
    """Random inputs of `act`, without hidden."""
    random = np.random.default_rng(seed)
    legal = random.random([rows, 2, 4]) < 0.6
    legal[..., 0] = True
    return {"obs": random.normal(size=[rows, 2, 3]).astype(np.float32), "legal": legal}


def test_policy_acts_by_name_pads_and_remembers(policy):
    zeros = policy.infer("initial_state", {"batch_size": 1})["hidden"]
    obs = np.asarray([[OBS["scout"], [0.5, -0.5, 0.0]]], np.float32)
    legal = np.asarray([[[1, 1, 0, 0], LEGAL["carrier"]]], bool)
    policy.reset()
    hidden = zeros
    for _ in range(3):
        out = policy.infer("act", {"obs": obs, "legal": legal, "hidden": hidden})
        hidden = out["hidden"]
        wanted = dict(zip(("scout", "carrier"), out["action"][0].tolist(), strict=True))
        assert policy.act(OBS, LEGAL) == wanted
    assert policy.act({**OBS, "carrier": [0.5, -0.5, 0]}, {**LEGAL, "scout": [1, 1, 1, 1]})
    assert set(policy.act(OBS)) == set(policy.act(OBS, {**LEGAL, "scout": None})) == set(OBS)


def test_an_agent_that_has_left_is_none_and_gets_no_action(policy):
    policy.reset()
    assert set(policy.act({**OBS, "scout": None}, LEGAL)) == {"carrier"}
    out = policy.infer(
        "act",
        {
            "obs": [[[0, 0, 0], [0.5, -0.5, 0]]],
            "legal": [[[1, 0, 0, 0], LEGAL["carrier"]]],
            "hidden": policy.infer("initial_state", {"batch_size": 1})["hidden"],
        },
    )
    np.testing.assert_array_equal(policy._clients.find("").hidden, out["hidden"])


def test_act_agent_keeps_each_agents_own_place(policy):
    policy.reset("team")
    policy.reset("robots")
    for _ in range(3):
        alone = {
            name: policy.act_agent(name, OBS[name], LEGAL[name], client="robots") for name in OBS
        }
        assert alone == policy.act(OBS, LEGAL, client="team")
    assert policy.act_agent(1, OBS["carrier"], [0, 1, 0, 0], client="robots") == 1


def test_rows_of_act_agent_are_those_of_act(policy):
    given = arrays(rows=3)
    team = policy.infer("act", given, client="x", start=True)
    agent = np.asarray([0, 1, 1])
    rows = {name: x[np.arange(3), agent] for name, x in given.items()}
    alone = policy.infer("act_agent", {**rows, "agent": agent}, client="y", start=True)
    named = ["scout", "carrier", b"carrier"]
    again = policy.infer("act_agent", {**rows, "agent": named}, client="z", start=True)
    for name in ("action", "q"):
        np.testing.assert_allclose(alone[name], team[name][np.arange(3), agent], atol=1e-6)
        np.testing.assert_array_equal(alone[name], again[name])


WRONG = [
    ({"obs": {"scout": [1, 2, 3]}}, "obs lacks agent 'carrier'; None is for an agent that has"),
    ({"obs": {**OBS, "carier": [1]}}, "there is no agent 'carier'; did you mean 'carrier'?"),
    ({"obs": {**OBS, "scout": [1, 2]}}, r"obs of agent 'scout' has shape \[2\], and it takes \[3"),
    ({"obs": {**OBS, "scout": "abc"}}, "obs of agent 'scout' holds values of type <U3"),
    ({"obs": {**OBS, "scout": [[1], [1, 2]]}}, "obs of agent 'scout' is not an array"),
    ({"obs": {**OBS, "scout": [1, 2, np.nan]}}, "agent 'scout' cannot act: its obs is NaN"),
    ({"obs": {**OBS, "carrier": [1, 1e300]}}, "agent 'carrier' cannot act: its obs is NaN, inf"),
    ({"obs": [1, 2, 3]}, "obs is list, and it takes a dict by agent name"),
    ({"legal": {"scout": [1, 1]}}, "legal lacks agent 'carrier'$"),
    ({"legal": {**LEGAL, "scout": [0, 0]}}, "agent 'scout' cannot act: none of its own actions"),
    ({"legal": {**LEGAL, "scout": [0, 0, 1, 1]}}, "agent 'scout' cannot act: none of its own"),
    ({"legal": {**LEGAL, "carrier": [1, 0]}}, r"legal of agent 'carrier' has shape \[2\]"),
    ({"legal": {**LEGAL, "scout": [0.5, 1]}}, "legal takes true and false, or 1 and 0"),
    ({"client": "nobody"}, "client 'nobody' has no episode here: start one first"),
]


@pytest.mark.parametrize("changes,message", WRONG)
def test_policy_says_which_input_is_wrong_and_keeps_the_episode(policy, changes, message):
    policy.reset("c")
    policy.act(OBS, LEGAL, client="c")
    before = policy._clients.find("c").hidden.copy()
    with pytest.raises(UserError, match=message):
        policy.act(**{"obs": OBS, "legal": LEGAL, "client": "c", **changes})
    np.testing.assert_array_equal(policy._clients.find("c").hidden, before)


def test_infer_says_which_input_is_wrong(policy):
    hidden = np.zeros([1, 2, 12])
    for signature, changes, message in (
        ("acts", {}, "there is no signature 'acts'; did you mean 'act'"),
        ("act", {"hidden": None}, "hidden holds values of type object"),
        ("act", {"observation": hidden}, "act has no input 'observation'; it takes obs, legal"),
        ("act", {"hidden": np.zeros([1, 2, 11])}, r"shape \[1, 2, 11\].* float32 \[B, 2, 12\]"),
        ("act", {"hidden": np.zeros([2, 2, 12])}, "different numbers of episodes: 1 of obs, 1 of"),
        ("act", {"hidden": hidden + np.inf}, "agent 'scout' cannot act: its hidden is NaN"),
        ("act", {"obs": np.zeros([0, 2, 3])}, "obs is for 0 episodes: it takes 1 to 16,384"),
        ("initial_state", {"batch_size": 10**9}, "has no input 'obs'"),
    ):
        with pytest.raises(UserError, match=message):
            policy.infer(signature, {**arrays(), "hidden": hidden, **changes})
    with pytest.raises(UserError, match=r"act needs the input hidden, float32 \[B, 2, 12\]"):
        policy.infer("act", arrays())
    for wrong, message in (
        (10**9, "batch_size is for 1000000000 episodes"),
        (10**30, "batch_size"),
        ([1], r"shape \[1\], and it takes int32 \[\]"),
    ):
        with pytest.raises(UserError, match=message):
            policy.infer("initial_state", {"batch_size": wrong})
    row = {"obs": [[1, 2, 3]], "legal": [[1, 1, 1, 1]], "hidden": np.zeros([1, 12])}
    for agent in (-1, 2, 2**40, "scot", True, 0.5, None):
        with pytest.raises(UserError, match=r"there is no agent|agent holds values of type"):
            policy.infer("act_agent", {**row, "agent": [agent]})
    policy.infer("act", arrays(2), client="two", start=True)
    with pytest.raises(
        UserError, match=r"client 'two' started 2 episodes in parallel, and the inp"
    ):
        policy.infer("act", arrays(3), client="two")


def test_an_agent_whose_values_overflow_gets_no_action(policy, monkeypatch):
    def overflowing(**inputs):
        nothing = np.full(inputs["legal"].shape, np.nan)
        return {"action": np.asarray([[0, -1]]), "q": nothing, "hidden": inputs["hidden"]}

    policy.reset()
    monkeypatch.setitem(policy._functions, "act", overflowing)
    with pytest.raises(UserError, match="agent 'carrier' cannot act: its values overflow"):
        policy.act(OBS)


def test_a_client_past_the_bound_gets_an_error_and_no_action_without_memory(folder):
    policy = Policy(folder, most_clients=2)
    for client in ("a", "b"):
        policy.reset(client)
    policy.act(OBS, client="a")
    policy.reset("c")  # the last call of b is the oldest
    policy.act(OBS, client="a")
    with pytest.raises(UserError, match=r"client 'b' has no episode here.* 2 clients that acted"):
        policy.act(OBS, client="b")
    policy.end("a")
    policy.end("a")
    with pytest.raises(UserError, match="client 'a' has no episode"):
        policy.act(OBS, client="a")
    with pytest.raises(UserError):  # a wrong first step holds nobody
        policy.infer("act", {**arrays(), "obs": 1}, client="d", start=True)
    assert len(policy._clients) == 1


@pytest.mark.parametrize(
    "settings,size",
    [
        ({"share_parameters": False}, 12),
        ({"recurrent": False}, 4),
        ({"recurrent": False, "last_action": False}, 0),
    ],
    ids=["own networks", "without memory", "without any state"],
)
def test_every_kind_of_agent_is_served_in_every_format(settings, size, tmp_path):
    made = tuple(name for name in formats.TITLES if not formats.missing(name))
    place = untrained(tmp_path, made, **settings)  # each format is compared with the live policy
    policies = [Policy(place, name) for name in made]
    assert policies[0].contract.hidden_size == size
    for policy in policies:
        policy.reset()
    for _ in range(3):
        first, *others = [policy.act(OBS, LEGAL) for policy in policies]
        assert all(other == first for other in others)


def test_threads_that_share_a_policy_never_mix_clients(folder):
    for name in ("saved_model", "tflite"):
        policy = Policy(folder, name)

        def play(client, policy=policy):
            return [
                policy.infer("act", arrays(seed=100 * client + t), client, t == 0)["q"]
                for t in range(12)
            ]

        alone = [play(client) for client in range(4)]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            together = list(pool.map(play, range(4)))
        np.testing.assert_allclose(together, alone, atol=1e-5)


def test_what_is_no_export_is_one_clear_line(folder, tmp_path):
    with pytest.raises(UserError, match=r"there is no contract\.json in .*--mode=export writes"):
        Policy(tmp_path)
    with pytest.raises(UserError, match="there is no format 'tf_lite'; did you mean 'tflite'"):
        Policy(folder, "tf_lite")
    about = json.loads((folder / "contract.json").read_text())
    cases = (
        ({"format": 2, "tfmix": "9.9"}, r"written by a newer tfmix \(9\.9\)"),
        ({"agents": []}, "is damaged: ValueError: agents and sizes"),
        ({"agents": about["agents"][:1]}, "is damaged: ValueError: agents and sizes"),
        ({"agents": 5}, "is damaged: TypeError"),
        ({"sizes": {**about["sizes"], "obs_size": -1}}, "a size is not a whole number"),
        ({"files": {"tarball": {}}}, "a format is unknown"),
    )
    for changes, message in cases:
        (tmp_path / "contract.json").write_text(json.dumps({**about, **changes}))
        with pytest.raises(UserError, match=message):
            Policy(tmp_path)
    (tmp_path / "contract.json").write_text("{")
    with pytest.raises(UserError, match="is damaged: JSONDecodeError"):
        Policy(tmp_path)
    (tmp_path / "contract.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match=r"cannot open .* as saved_model: "):
        Policy(tmp_path)
    with pytest.raises(
        UserError, match=r"there is no .*policy\.tflite; --mode=export --format=tfl"
    ):
        Policy(tmp_path, "tflite")
    (tmp_path / "policy.tflite").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"cannot open .* as tflite: "):
        Policy(tmp_path, "tflite")


ALONE = """
import sys
blocked = ['tfmix.' + x for x in ('training', 'runs', 'algos', 'networks', 'envs', 'config')]
for name in (*blocked, 'tf_agents', 'tf_keras', 'gymnasium', 'pettingzoo'):
    sys.modules[name] = None
from tfmix.serving import Policy
assert 'tensorflow' not in sys.modules
policy = Policy(sys.argv[1])
policy.reset()
print(policy.act({'scout': [1.0, 2.0, 3.0], 'carrier': [0.5, -0.5]}))
"""


def test_policy_needs_no_training_code(policy, folder, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(folder)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    policy.reset()
    assert done.stdout.strip() == str(policy.act(OBS))


# The servers.


@pytest.fixture(scope="module")
def rest(folder):
    with serving_tools.rest(folder, "--clients=50") as client:
        yield client


def test_rest_describes_itself(rest):
    assert rest.call("/v2")[1]["extensions"] == ["sequence"]
    assert rest.call("/v2/health/live") == (200, {"live": True})
    assert rest.call("/v2/health/ready") == (200, {"ready": True})
    assert rest.call("/v2/models/act/ready")[0] == 200
    status, about = rest.call("/v2/models/act/versions/1")
    assert status == 200 and about["platform"] == "tensorflow_savedmodel"
    assert about["inputs"][:2] == [
        {"name": "obs", "datatype": "FP32", "shape": [-1, 2, 3]},
        {"name": "legal", "datatype": "BOOL", "shape": [-1, 2, 4]},
    ]
    assert rest.call("/contract.json")[1]["agents"][0]["name"] == "scout"


def test_rest_answers_as_the_policy(rest, policy):
    given = {**arrays(2), "hidden": np.zeros([2, 2, 12], np.float32)}
    status, out = rest.act("act", given)
    wanted = policy.infer("act", given)
    assert status == 200 and list(out) == ["action", "q", "hidden"]
    for name, x in wanted.items():
        np.testing.assert_allclose(out[name], x, atol=1e-5)
    row = {name: x[:, 1] for name, x in given.items()}
    for agent in (np.asarray([1, 1]), np.asarray(["carrier", "carrier"])):
        status, alone = rest.act("act_agent", {**row, "agent": agent})
        np.testing.assert_allclose(alone["q"], out["q"][:, 1], atol=1e-5)
    status, zeros = rest.act("initial_state_agent", {"batch_size": np.asarray(3)})
    assert status == 200 and zeros["hidden"].shape == (3, 12)


def test_rest_never_mixes_two_clients(rest, policy):
    def play(client):
        found = []
        for t in range(10):
            given = arrays(seed=1000 * client + t)
            flags = {"sequence_start": t == 0, "sequence_end": t == 9}
            status, out = rest.act("act", given, sequence_id=f"client {client}", **flags)
            assert status == 200 and "hidden" not in out
            found.append(out["q"])
        return found

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = list(pool.map(play, range(8)))
    for client, found in enumerate(together):
        wanted = [
            policy.infer("act", arrays(seed=1000 * client + t), "alone", t == 0)["q"]
            for t in range(10)
        ]
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert rest.act("act", arrays(), sequence_id="client 1")[0] == 400  # it has ended


def test_rest_refuses_what_is_wrong_and_goes_on(rest):
    good = {**arrays(), "hidden": np.zeros([1, 2, 12], np.float32)}
    none = np.zeros([1, 2, 4], bool)
    for changes, message in (
        ({"obs": np.zeros([1, 2, 4])}, r"obs has shape [1, 2, 4], and it takes float32 [B, 2, 3]"),
        ({"obs": np.zeros([1, 2, 3], int)}, "obs has datatype 'INT32', and it takes FP32"),
        ({"legal": none}, "agent 'scout' cannot act: none of its own actions is legal"),
        ({"odd": none}, "act has no input 'odd'; it takes obs, legal, hidden"),
    ):
        assert rest.act("act", {**good, **changes}) == (400, message)
    status, why = rest.act("act", arrays())
    assert status == 400 and why == "act needs the input hidden, float32 [B, 2, 12]"
    status, why = rest.act("act", arrays(), sequence_id="never started")
    assert status == 400 and "has no episode here: start one first" in why
    row = {name: x[:, 1] for name, x in good.items()}
    for agent in ("scot", "", "x" * 1000, "\x1b"):
        status, why = rest.act("act_agent", {**row, "agent": np.asarray([agent])})
        assert status == 400 and why.startswith("there is no agent ") and why.isprintable()
    assert rest.act("actt", good) == (
        404,
        "there is no signature 'actt'; did you mean 'act'?; there are serving_default, act, "
        "act_agent, initial_state, initial_state_agent",
    )
    one, two = tensor("obs", good["obs"]), tensor("legal", good["legal"])
    path = "/v2/models/act/infer"
    for body, message in (
        (b"", "the body is not JSON"),
        (b"\xff\xfe", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b'{"inputs": [NaN]}', "NaN is not a number"),
        ([], "the body is a JSON object"),
        ({"inputs": 3}, "the body is a JSON object with a list of inputs"),
        ({"inputs": [3]}, "an input is a JSON object with name"),
        ({"inputs": [one, one]}, "the input obs comes twice"),
        ({"inputs": [{**one, "shape": [1, 2, 2]}]}, "obs has 6 values, and its shape is [1, 2, 2]"),
        ({"inputs": [{**one, "shape": [-1]}]}, "obs needs its shape"),
        ({"inputs": [{**one, "shape": [10**30]}]}, "obs has 6 values"),
        ({"inputs": [{**one, "data": [[1], [2, 3]]}]}, "the data of obs is not an array"),
        (
            {"inputs": [{**one, "data": ["a"] * 6}, two, tensor("hidden", good["hidden"])]},
            "obs holds values of type <U1",
        ),
        ({"inputs": [one], "parameters": 3}, "parameters is a JSON object"),
        ({"inputs": [one], "parameters": {"sequence_id": {}}}, "needs the input legal"),
        ({"inputs": [one], "parameters": {"sequence_id": [1]}}, "sequence_id is a whole number"),
        ({"inputs": [one], "parameters": {"sequence_start": 1}}, "are true or false"),
        ({"inputs": [one], "parameters": {"sequence_end": True}}, "need a sequence_id"),
    ):
        status, answer = rest.call(path, body)
        assert status == 400 and message in answer["error"], answer
    body = json.dumps({"inputs": [one], "more": "x" * 10_000_000}).encode()
    status, answer = rest.call(path, body)
    assert status == 413 and "more than 8,388,608 bytes" in answer["error"]
    assert rest.call(path, method="GET")[0] == 405 and rest.call("/v1")[0] == 404
    assert rest.call("/v2/models/act/versions/7")[0] == 404
    assert rest.act("act", good)[0] == 200 and rest.process.poll() is None


ODD = [None, True, 0, -1, 1.5, 10**30, "", "x", "BYTES", [], {}, [[]], [1, [2]], [None], [1e39]]


def places(found, here=()):
    """The paths to everything in a JSON object."""
    yield here
    if isinstance(found, dict | list):
        for key in found if isinstance(found, dict) else range(len(found)):
            yield from places(found[key], (*here, key))


def test_rest_answers_any_request_with_outputs_or_one_sentence(policy):
    for name in ("starlette", "uvicorn"):
        pytest.importorskip(name, reason=f"{name} is not installed (requirements-serve.txt)")
    from examples.serve.rest_server import infer

    random = np.random.default_rng(0)
    row = {name: x[:, 0] for name, x in arrays().items()}
    inputs = {
        "act": {**arrays(), "hidden": np.zeros([1, 2, 12], np.float32)},
        "act_agent": {**row, "agent": np.asarray(["scout"])},
        "initial_state": {"batch_size": np.asarray(2)},
    }
    for _ in range(2000):
        model = random.choice(list(inputs))
        start = {"sequence_id": "fuzz", "sequence_start": True} if model == "act_agent" else {}
        given = [tensor(name, x) for name, x in inputs[model].items()]
        body = {"id": "1", "inputs": given, "parameters": start}
        for _ in range(random.integers(1, 4)):
            *path, last = random.choice(np.asarray([*places(body), None], object)[1:-1])
            inner = body
            for key in path:
                inner = inner[key]
            inner[last] = copy.deepcopy(ODD[random.integers(len(ODD))])
        with contextlib.suppress(UserError):
            json.dumps(infer(policy, model, json.dumps(body).encode()), allow_nan=False)


@pytest.mark.slow
def test_rest_keeps_its_memory_over_ten_thousand_requests(rest):
    body = json.dumps(
        {
            "inputs": [tensor(name, x) for name, x in arrays().items()],
            "parameters": {"sequence_start": True},
        }
    ).replace("true}", 'true, "sequence_id": "%d"}')
    link = http.client.HTTPConnection("127.0.0.1", rest.port, timeout=60)
    seen = []
    for i in range(10_000):
        link.request("POST", "/v2/models/act/infer", body % i)  # each one is a new client
        found = link.getresponse()
        assert found.status == 200 and found.read()
        if i % 1000 == 999:
            seen.append(serving_tools.memory_of(rest.process))
    link.close()
    assert seen[-1] - seen[1] < 5, seen


GRPC_CLIENT = """
import sys
for name in ('tfmix', 'tf_agents', 'tf_keras'):
    sys.modules[name] = None
import grpc, numpy as np, tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(sys.argv[1]))
data = np.load(sys.argv[2])

def call(signature, name='team', **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    for key, x in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(x))
    out = stub.Predict(request, timeout=60).outputs
    return {key: tf.make_ndarray(x) for key, x in out.items()}

def refused(code, text, signature='act', **inputs):
    try:
        call(signature, **inputs)
    except grpc.RpcError as error:
        assert error.code() == getattr(grpc.StatusCode, code), error
        assert text in error.details(), error.details()
    else:
        raise AssertionError(text)

hidden = call('initial_state', batch_size=np.int32(4))['hidden']
for t in range(25):
    out = call('' if t % 2 else 'act', obs=data['obs'][t], legal=data['legal'][t], hidden=hidden)
    hidden = out['hidden']
    np.testing.assert_array_equal(out['action'], data['action'][t])
    np.testing.assert_allclose(out['q'], data['q'][t], atol=1e-5)
good = dict(obs=data['obs'][0], legal=data['legal'][0], hidden=hidden)
refused('NOT_FOUND', "there is no model 'x', but 'team'", name='x', **good)
wrong = 'INVALID_ARGUMENT'
refused(wrong, "did you mean 'act'?", signature='acd', **good)
refused(wrong, 'act needs the input hidden', obs=good['obs'], legal=good['legal'])
refused(wrong, 'obs has shape [4, 2, 2]', **{**good, 'obs': good['obs'][..., :2]})
refused(wrong, 'none of its own actions is legal', **{**good, 'legal': good['legal'] & False})
one = {key: x[:, 0] for key, x in good.items()}
refused(wrong, "there is no agent 7", 'act_agent', agent=np.full(4, 7, np.int32), **one)
refused('RESOURCE_EXHAUSTED', 'larger than max', obs=np.zeros(3_000_000, np.float32))
bomb = predict_pb2.PredictRequest()
bomb.model_spec.name = 'team'
bomb.inputs['obs'].dtype = 1
bomb.inputs['obs'].tensor_shape.dim.add().size = 10 ** 10
bomb.inputs['obs'].float_val.append(1.0)
try:
    stub.Predict(bomb)
except grpc.RpcError as error:
    assert 'which is too large' in error.details()
call('act', **good)
print('equal', t + 1)
"""


def test_grpc_stubs_of_tensorflow_serving_act_alike(folder, policy, tmp_path):
    for name in ("grpc", "tensorflow_serving"):
        pytest.importorskip(name, reason=f"{name} is not installed (requirements-serve.txt)")
    kept = {"obs": [], "legal": [], "action": [], "q": []}
    for t in range(25):
        given = arrays(4, seed=t)
        out = policy.infer("act", given, "grpc", t == 0)
        for key, x in (*given.items(), ("action", out["action"]), ("q", out["q"])):
            kept[key].append(x)
    np.savez(tmp_path / "x.npz", **kept)
    port = serving_tools.free_port()
    with serving_tools.serving("grpc_server", folder, f"--port={port}"):
        command = [sys.executable, "-c", GRPC_CLIENT, f"127.0.0.1:{port}", tmp_path / "x.npz"]
        done = subprocess.run([*map(str, command)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "equal 25"


@pytest.mark.slow
def test_the_cpp_example_compiles_and_acts_alike(folder, policy, tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    place = Path(tf.__file__).parent
    words = ["g++", "-std=c++17", "-w", "examples/serve/act.cc", "-o", tmp_path / "act"]
    words += [f"-I{place}/include", "-Wl,--no-as-needed", f"-L{place}"]
    words += ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2", f"-Wl,-rpath,{place}"]
    subprocess.run([*map(str, words)], cwd=ROOT, check=True)
    done = subprocess.run([tmp_path / "act", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ones = {"obs": np.ones([1, 2, 3]), "legal": np.ones([1, 2, 4])}
    steps = [policy.infer("act", ones, "cpp", t == 0)["action"][0].tolist() for t in range(3)]
    assert [[*map(int, line.split())] for line in done.stdout.splitlines()] == steps
