"""What holds for any input: arithmetic, settings, seeds, replay, mixers.

Hypothesis draws the inputs, always the same ones, and shows the smallest that fails.
"""

import contextlib
import dataclasses
import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.conftest import make_batch
from tests.networks.test_networks import FACTORISED
from tests.test_ops import by_hand
from tfmix import ops
from tfmix.algos.qtran_base import JointQ
from tfmix.config import parsing, resolve
from tfmix.config.schema import FIELDS, MAX_INT, TYPES, Config
from tfmix.errors import UserError
from tfmix.experiments import grid
from tfmix.networks.layers import reset_weights
from tfmix.training.replay import EpisodeReplay
from tfmix.types import EnvSpec


def examples(most):
    """At most so many inputs, the same in every run, whatever time one takes."""
    return settings(
        max_examples=most,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


B, T, N, A = 3, 5, 2, 4  # one shape, so that each function compiles once
# TensorFlow may round subnormal numbers to zero.
numbers = st.floats(-100, 100, width=32, allow_subnormal=False)
seeds = st.integers(0, 2**31 - 1)


def arrays(*shape, elements=numbers):
    return hnp.arrays(np.float32, shape, elements=elements)


# Arithmetic: against NumPy, eagerly and compiled.

COMPILED = {
    function: tf.function(function, jit_compile=True, autograph=False)
    for function in (
        *(ops.masked_mean, ops.gather_actions, ops.legal_argmax, ops.legal_max),
        *(ops.n_step_return, ops.lambda_return, ops.select_actions),
    )
}


def both(function, *arguments):
    """Returns what a function gives, which must be the same without and with a compiler."""
    plain, compiled = (f(*arguments).numpy() for f in (function, COMPILED[function]))
    np.testing.assert_allclose(compiled, plain, rtol=1e-5, atol=1e-4)
    return plain


@st.composite
def episodes(draw):
    """Rewards, ends and masks of episodes of any length, and values of their steps."""
    lengths = draw(st.lists(st.integers(1, T), min_size=B, max_size=B))
    mask = (np.arange(T) < np.asarray(lengths)[:, None]).astype(np.float32)
    terminated = np.zeros([B, T], np.float32)
    for row, length in enumerate(lengths):
        terminated[row, length - 1] = draw(st.booleans())
    reward, value, taken = draw(arrays(3, B, T))
    fields = {"reward": reward * mask, "terminated": terminated, "mask": mask}
    batch = SimpleNamespace(**{name: tf.constant(x) for name, x in fields.items()})
    return batch, value, taken * mask


@examples(40)
@given(episodes(), st.floats(0, 1, width=32, allow_subnormal=False), st.integers(1, T + 1))
def test_n_step_return_is_its_definition(drawn, gamma, n):
    batch, value, taken = drawn
    discount = gamma * (1 - batch.terminated)
    found = ops.n_step_return(batch.reward, discount, batch.mask, value, n).numpy()
    wanted = by_hand(batch, value, taken, gamma, n=n)
    np.testing.assert_allclose(found * batch.mask, wanted, rtol=1e-4, atol=1e-2)


@examples(40)
@given(
    episodes(),
    st.floats(0, 1, width=32, allow_subnormal=False),
    st.floats(0.0625, 1, width=32, allow_subnormal=False),
    st.booleans(),
)
def test_lambda_return_is_its_definition(drawn, gamma, lambda_, q_lambda):
    batch, value, taken = drawn
    discount = gamma * (1 - batch.terminated)
    arguments = (batch.reward, discount, batch.mask, tf.constant(value), tf.constant(lambda_))
    arguments += (tf.constant(taken) if q_lambda else None,)
    found = both(ops.lambda_return, *arguments)
    wanted = by_hand(batch, value, taken, gamma, lambda_=lambda_, q_lambda=q_lambda)
    np.testing.assert_allclose(found * batch.mask, wanted, rtol=1e-4, atol=1e-2)


@examples(30)
@given(episodes(), st.sampled_from([np.nan, np.inf, 7.0]))
def test_masked_mean_is_the_mean_of_real_steps(drawn, padding):
    batch, value, _ = drawn
    mask = batch.mask.numpy()
    x = np.where(mask > 0, value, np.float32(padding))
    found = both(ops.masked_mean, tf.constant(x), batch.mask)
    np.testing.assert_allclose(found, value[mask > 0].mean(dtype=np.float64), rtol=1e-4, atol=1e-3)


@st.composite
def choices(draw):
    """Values with NaN at illegal actions, and masks with a legal action at least."""
    q = draw(arrays(B, N, A))
    legal = draw(hnp.arrays(bool, [B, N, A]))
    legal[..., draw(st.integers(0, A - 1))] = True
    return tf.constant(np.where(legal, q, np.float32(np.nan))), tf.constant(legal)


@examples(40)
@given(choices(), st.sampled_from([0.0, 0.3, 1.0]), seeds)
def test_select_actions_never_takes_an_illegal_action(drawn, epsilon, seed):
    q, legal = drawn
    for function in (ops.select_actions, COMPILED[ops.select_actions]):  # XLA draws others
        action = function(q, legal, tf.constant(epsilon), tf.constant([seed, 1])).numpy()
        assert np.take_along_axis(legal.numpy(), action[..., None], -1).all()
        if epsilon == 0:
            np.testing.assert_array_equal(action, ops.legal_argmax(q, legal))


@examples(40)
@given(choices())
def test_legal_argmax_legal_max_and_gather_actions_agree(drawn):
    q, legal = drawn
    action, best = both(ops.legal_argmax, q, legal), both(ops.legal_max, q, legal)
    np.testing.assert_array_equal(both(ops.gather_actions, q, tf.constant(action)), best)
    np.testing.assert_array_equal(best, np.nanmax(q, -1))


# Settings: from a configuration to text and back.

plain = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), max_size=12)


def values_of(name):
    """Values that a setting allows."""
    field, kind = FIELDS[name], TYPES[name]
    if "choices" in field.metadata:
        return st.sampled_from(field.metadata["choices"])
    if kind is bool:
        return st.booleans()
    low, high = field.metadata.get("low"), field.metadata.get("high")
    if kind is int:
        return st.integers(low, MAX_INT if high is None else high)
    if kind is float:
        return st.floats(low, high, allow_nan=False, allow_infinity=False)
    return plain if kind is str else st.lists(plain).map(tuple)


def fits(config):
    """Whether the settings contradict each other."""
    shards = config.update_shards
    return (
        config.batch_episodes <= config.buffer_episodes
        and (not shards or config.batch_episodes % shards == 0)
        and (config.n_step == 1 or config.td_lambda == 0)
        and (not config.q_lambda or config.td_lambda > 0)
    )


configs = st.fixed_dictionaries({}, optional={name: values_of(name) for name in FIELDS}).map(
    lambda drawn: Config(**drawn)
)


@examples(50)
@given(configs)
def test_settings_come_back_from_flags_from_a_flagfile_and_from_run_json(tmp_path_factory, config):
    stored = dataclasses.asdict(config)
    file = tmp_path_factory.mktemp("flags") / "x.flags"
    file.write_text("\n".join(parsing.as_flags(stored)))
    for words in (parsing.as_flags(stored), [f"--flagfile={file}"]):
        found = parsing.parse(words)
        assert Config(**{n: tuple(v) if n == "env_arg" else v for n, v in found.items()}) == config
    assert resolve.from_dict(json.loads(json.dumps(stored))) == config


@examples(50)
@given(configs)
def test_resolve_keeps_what_is_asked_or_says_what_contradicts(config):
    asked = dataclasses.asdict(config) | {"algo": "vdn", "env": "two_step"}
    refused = contextlib.nullcontext() if fits(config) else pytest.raises(UserError)
    with refused:
        assert dataclasses.asdict(resolve.resolve(asked)) == asked


names = st.sampled_from([*FIELDS, "flagfile", "help", "gama", ""])
words = st.one_of(
    st.text(max_size=20),
    st.builds("--{}={}".format, names, st.text(max_size=20) | numbers | st.integers()),
    st.builds("--{}".format, names),
)


@examples(200)
@given(st.lists(words, max_size=4))
def test_parse_reads_any_words_or_raises_user_error(drawn):
    with contextlib.suppress(UserError):
        assert set(parsing.parse(drawn)) <= set(FIELDS)


@examples(100)
@given(st.dictionaries(names, st.none() | st.booleans() | numbers | st.text() | st.lists(plain)))
def test_resolve_and_from_dict_read_any_values_or_raise_user_error(drawn):
    for read in (resolve.resolve, resolve.from_dict):
        with contextlib.suppress(UserError):
            assert isinstance(read(drawn), Config)


@examples(100)
@given(st.lists(st.text(max_size=20), max_size=3))
def test_env_arguments_reads_any_words_or_raises_user_error(drawn):
    with contextlib.suppress(UserError):
        found = resolve.env_arguments(Config(env_arg=tuple(drawn)))
        assert set(found) == {word.partition("=")[0] for word in drawn}


# Seeds of a benchmark.


@examples(60)
@given(st.lists(st.integers(0, 50) | seeds, min_size=1, max_size=8, unique=True))
def test_seeds_come_back_from_their_text(drawn):
    assert grid.seeds_of(grid._seeds_text(drawn)) == drawn
    assert grid.seeds_of(",".join(map(str, drawn))) == drawn


@examples(30)
@given(st.integers(0, 10**6), st.integers(1, 100))
def test_seeds_of_a_range_leave_out_its_last(first, count):
    assert grid.seeds_of(f"{first}:{first + count}") == list(range(first, first + count))


@examples(200)
@given(st.text(st.sampled_from("0123456789:,-+ .e_x"), max_size=12) | st.text(max_size=8))
def test_seeds_of_reads_any_text_or_raises_user_error(text):
    with contextlib.suppress(UserError):
        found = grid.seeds_of(text)
        assert 0 < len(found) == len(set(found)) <= grid.MOST


# Replay.

SPEC = EnvSpec("test", 2, 3, 1, 1, 2, (3, 3))


@examples(12)
@given(st.integers(1, 3), st.integers(1, 7), st.lists(st.sampled_from("aaaac"), max_size=8))
def test_replay_holds_and_draws_what_a_list_of_the_last_episodes_holds(n_envs, capacity, calls):
    replay, held, number = EpisodeReplay(SPEC, n_envs, capacity), [], 0
    batch = make_batch(SPEC, lengths=(2,) * n_envs)
    most = -(-capacity // n_envs) * n_envs
    for call in calls:
        if call == "c":
            replay.clear()
            held = []
            continue
        new = [float(number + i) for i in range(n_envs)]
        replay.add_batch(batch._replace(reward=tf.constant([[x, x] for x in new])))
        held, number = [*held, *new][-most:], number + n_envs
        np.testing.assert_array_equal(replay.newest().reward[:, 0], new)
    assert int(replay.num_episodes()) == len(held)
    if held:
        drawn = replay.sample(tf.constant([1, number]), 300).reward[:, 0].numpy()
        assert set(drawn) == set(held)  # one is missing with a chance below 1e-6


# Mixers: 3 agents with 4 actions, a state of 11 numbers, observations of 6.


@st.composite
def teams(draw):
    """A mixer with weights of any seed; values [1, 3, 4], a state and observations."""
    mixer = FACTORISED[draw(st.sampled_from(sorted(FACTORISED)))]()
    reset_weights(mixer, tf.constant([draw(seeds), 0]))
    some = st.floats(-8, 8, width=32, allow_subnormal=False)
    q, state, obs = (draw(arrays(1, *s, elements=some)) for s in ((3, 4), (1, 11), (1, 3, 6)))
    return mixer, q, state, obs


def mixed(mixer, q, state, obs, actions):
    """Q_tot of M joint actions, [M]."""
    many = len(actions)
    taken = np.take_along_axis(q[0], np.asarray(actions).T, 1).T
    return mixer(
        tf.constant(taken)[None],
        tf.repeat(state, many, 1),
        agent_max_q=tf.repeat(tf.reduce_max(q, -1)[:, None], many, 1),
        action=tf.constant(actions)[None],
        obs=tf.repeat(obs, many, 1),
    ).numpy()[0]


@examples(20)
@given(teams())
def test_mixers_value_no_team_action_above_each_agents_own_best_one(drawn):
    mixer, q, state, obs = drawn
    best = tuple(int(x) for x in q[0].argmax(-1))
    found = mixed(mixer, q, state, obs, [best, *itertools.product(range(4), repeat=3)])
    assert found.max() <= found[0] + 1e-4 * (1 + np.abs(found).max())


@examples(20)
@given(
    teams(), st.integers(0, 2), st.integers(0, 3), st.floats(0, 8, width=32, allow_subnormal=False)
)
def test_mixers_value_a_team_higher_if_an_agents_value_is_higher(drawn, agent, action, more):
    """For QPLEX up to the agent's maximum, of which Q_tot is a function of its own."""
    mixer, q, state, obs = drawn
    higher = q.copy()
    higher[0, agent, action] += more
    for x in (q, higher):  # the maximum of both, at another action
        x[0, agent, (action + 1) % 4] = 20.0
    joint = [(action,) * 3]
    low, high = (mixed(mixer, x, state, obs, joint)[0] for x in (q, higher))
    assert high >= low - 1e-4 * (1 + abs(low))


SYMMETRIC = ("additive", "attention", "attention, no bias")


@examples(6)
@given(teams(), st.permutations(range(3)))
def test_additive_and_attention_mixers_do_not_ask_for_the_agents_order(drawn, order):
    _, q, state, obs = drawn
    for name in SYMMETRIC:
        mixer = FACTORISED[name]()
        reset_weights(mixer, tf.constant([3, 4]))
        one = mixed(mixer, q, state, obs, [(0, 1, 2)])
        actions = tuple(range(3)[i] for i in order)
        other = mixed(mixer, q[:, order], state, obs[:, :, order], [actions])
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


@examples(30)
@given(
    arrays(1, 1, 4),
    arrays(1, 1, 3, 5, elements=st.floats(-1, 1, width=32, allow_subnormal=False)),
    seeds,
    st.data(),
)
def test_joint_q_does_not_ask_for_the_agents_order(state, hidden, seed, data):
    joint = JointQ(state_size=4, hidden_size=5, n_actions=2, embed=6)
    reset_weights(joint, tf.constant([seed, 0]))
    action = data.draw(hnp.arrays(np.int32, (1, 1, 3), elements=st.integers(0, 1)))
    order = data.draw(st.permutations(range(3)))
    one = joint(state, hidden, tf.constant(action))
    other = joint(state, hidden[:, :, order], tf.constant(action[:, :, order]))
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
