import itertools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.conftest import make_batch
from tfmix.algos.qatten import AttentionMixer
from tfmix.algos.qmix import MonotonicMixer
from tfmix.algos.qplex import DuplexMixer
from tfmix.algos.qtran import StateValue
from tfmix.algos.qtran_alt import CounterfactualQ
from tfmix.algos.qtran_base import JointQ
from tfmix.algos.value_mixing import AdditiveMixer, IndependentMixer
from tfmix.algos.wqmix import UnrestrictedMixer
from tfmix.networks.agent import AgentTeam, next_policy_state, own_legal, policy_step
from tfmix.networks.agent_spec import AgentSpec
from tfmix.networks.gru import RecurrentWeights, recurrent_step
from tfmix.networks.in_numpy import NumpyTeam
from tfmix.networks.layers import Linear, SeededLayer, matmul, reset_weights
from tfmix.ops import legal_argmax

SEED = tf.constant([3, 4])


def agent_spec(spec, **changes):
    return AgentSpec(spec.obs_size, spec.n_agents, spec.n_actions, 8, **changes)


def count(layer):
    return sum(int(np.prod(w.shape)) for w in layer.trainable_variables)


def test_weights_are_uniform_within_one_over_root_of_fan_in_and_depend_on_the_seed():
    layer = Linear(100, 50)
    reset_weights(layer, SEED)
    first = layer.kernel.numpy()
    assert 0.095 < np.abs(first).max() <= 0.1 and 0.09 < np.abs(layer.bias.numpy()).max() <= 0.1
    assert abs(first.mean()) < 0.005
    reset_weights(layer, SEED)
    np.testing.assert_array_equal(layer.kernel, first)
    reset_weights(layer, tf.constant([3, 5]))
    assert not np.array_equal(layer.kernel, first)


def test_no_two_weights_of_a_network_share_their_draw():
    mixer = MonotonicMixer(3, 7, 6, 9, 2)
    reset_weights(mixer, SEED)
    layers = [m for m in mixer.submodules if isinstance(m, SeededLayer)]
    heads = [
        w.numpy().ravel()[0] / bound
        for layer in layers
        for w, bound in zip(layer.weights, layer.bounds, strict=True)
    ]
    assert len(heads) == len(mixer.weights) == 14
    assert len(set(np.round(heads, 6))) == len(heads)


def test_matmul_is_one_flat_product():
    @tf.function
    def product(x, kernel):
        return matmul(x, kernel)

    graph = product.get_concrete_function(tf.zeros([9, 1, 2, 64]), tf.zeros([64, 64])).graph
    kinds = {op.type for op in graph.get_operations()}
    assert "MatMul" in kinds and not any(kind.startswith("BatchMatMul") for kind in kinds)
    x = np.random.default_rng(0).normal(size=[9, 1, 2, 64]).astype(np.float32)
    kernel = np.random.default_rng(1).normal(size=[64, 64]).astype(np.float32)
    np.testing.assert_allclose(product(x, kernel), x @ kernel, atol=1e-4)


def test_gru_equals_keras():
    agent = AgentTeam(AgentSpec(5, 2, 3, 8, True, True))
    reset_weights(agent, SEED)
    w = RecurrentWeights(*agent.read_weights()[0])
    cell = tf_keras.layers.GRUCell(8, reset_after=True)
    cell.build([None, 8])

    def reorder(x):  # ours: reset, update, candidate; Keras: update, reset, candidate
        reset, update, candidate = np.split(np.asarray(x), 3, -1)
        return np.concatenate([update, reset, candidate], -1)

    bias = np.stack([reorder(w.gates_bias), reorder(w.recur_bias)])
    cell.set_weights([reorder(w.gates), reorder(w.recur), bias])
    w = w._replace(encode=tf.eye(8), encode_bias=tf.zeros([8]))
    x = tf.abs(tf.random.stateless_normal([6, 8], SEED))
    hidden = tf.random.stateless_normal([6, 8], [1, 2])
    np.testing.assert_allclose(recurrent_step(w, x, hidden)[1], cell(x, [hidden])[0], atol=1e-6)


KINDS = [
    {"last_action": True, "agent_id": False},
    {"last_action": False, "agent_id": True},
    {"last_action": False, "agent_id": False},
    {"architecture": "feed_forward"},
    {"architecture": "feed_forward", "layers": 3, "last_action": False},
    {"shared": False, "agent_id": False},
    {"shared": False, "agent_id": False, "architecture": "feed_forward"},
]


@pytest.mark.parametrize("kind", [{}, *KINDS], ids=str)
def test_training_unroll_equals_step_by_step_acting(spec, kind):
    batch = make_batch(spec)
    agent = AgentTeam(agent_spec(spec, **kind))
    reset_weights(agent, SEED)
    unrolled, hiddens = tf.function(agent.unroll, jit_compile=True)(batch.obs, batch.action)
    policy_state = tf.zeros([4, 3, agent.agent_spec.policy_state_size])
    for t in range(spec.episode_limit + 1):
        q, hidden = agent(batch.obs[:, t], policy_state)
        np.testing.assert_allclose(q, unrolled[:, t], atol=1e-5)
        np.testing.assert_allclose(hidden, hiddens[:, t], atol=1e-5)
        for i in range(3):  # and as one robot would
            alone, _ = policy_step(
                agent.read_weights(),
                agent.agent_spec,
                batch.obs[:, t, i],
                policy_state[:, i],
                tf.fill([4], i),
            )
            np.testing.assert_allclose(alone, q[:, i], atol=1e-5)
        if t < spec.episode_limit:
            policy_state = next_policy_state(agent.agent_spec, hidden, batch.action[:, t])


@pytest.mark.parametrize("kind", [{}, *KINDS], ids=str)
def test_the_team_in_numpy_acts_as_the_compiled_one(spec, kind):
    batch = make_batch(spec)
    agent = AgentTeam(agent_spec(spec, **kind))
    reset_weights(agent, SEED)
    team = NumpyTeam.of(agent)
    dice = np.random.default_rng(0)
    policy_state = np.zeros([4, 3, agent.agent_spec.policy_state_size], np.float32)
    for t in range(spec.episode_limit + 1):
        obs, legal = batch.obs[:, t].numpy(), batch.legal[:, t].numpy()
        legal[..., 0] |= ~legal.any(-1)
        for found, wanted in zip(
            team.step(obs, policy_state), agent(obs, policy_state), strict=True
        ):
            np.testing.assert_allclose(found, wanted, atol=1e-6)
        q, hidden = agent(obs, policy_state)
        explore_mask = dice.random([4, 3]) < 0.5
        exploration_scores = dice.random(legal.shape)
        action, policy_state = team.act(obs, legal, policy_state, explore_mask, exploration_scores)
        greedy, drawn = (
            legal_argmax(tf.constant(x), legal).numpy() for x in (q, exploration_scores)
        )
        np.testing.assert_array_equal(action, np.where(explore_mask, drawn, greedy))
        np.testing.assert_allclose(
            policy_state,
            next_policy_state(agent.agent_spec, hidden, tf.constant(action, tf.int32)),
            atol=1e-6,
        )


def test_the_team_in_numpy_takes_no_action_that_an_agent_does_not_have(spec):
    agent = AgentTeam(agent_spec(spec, agent_n_actions=spec.agent_n_actions))
    agent.networks[0].head_bias.assign([0.0, 0.0, 0.0, 99.0])  # padding of agent 2
    team, dice = NumpyTeam.of(agent), np.random.default_rng(0)
    assert spec.agent_n_actions == (4, 4, 3)
    obs = dice.normal(size=[50, 3, spec.obs_size]).astype(np.float32)
    legal, policy_state = (
        np.ones([50, 3, 4], bool),
        np.zeros([50, 3, team.policy_state_size], np.float32),
    )
    for explore_mask in (np.zeros([50, 3], bool), np.ones([50, 3], bool)):
        action, _ = team.act(obs, legal, policy_state, explore_mask, dice.random([50, 3, 4]))
        assert action[:, :2].max() == 3 and action[:, 2].max() <= 2
    assert legal.all()  # the caller's mask is as it was


def test_own_legal_actions_are_those_of_the_agent_and_none_of_a_stranger(spec):
    size = agent_spec(spec, agent_n_actions=spec.agent_n_actions)
    own = np.asarray(spec.own_actions)
    legal = np.random.default_rng(0).random([6, 3, 4]) < 0.7
    np.testing.assert_array_equal(own_legal(size, tf.constant(legal)), legal & own)
    alone = own_legal(size, tf.constant(legal[:, 0]), tf.constant([0, 1, 2, 3, -1, 2]))
    known = np.asarray([True, True, True, False, False, True])[:, None]
    np.testing.assert_array_equal(alone, legal[:, 0] & own[[0, 1, 2, 0, 0, 2]] & known)
    for everything in (agent_spec(spec), agent_spec(spec, agent_n_actions=(4, 4, 4))):
        assert everything.own_actions is None
        np.testing.assert_array_equal(own_legal(everything, tf.constant(legal)), legal)


def test_agents_with_networks_of_their_own_share_no_weight(spec):
    team = AgentTeam(agent_spec(spec, agent_id=False, shared=False))
    reset_weights(team, SEED)
    assert count(team) == 3 * count(AgentTeam(agent_spec(spec, agent_id=False)))
    obs, policy_state = tf.ones([1, 3, 5]), tf.zeros([1, 3, team.agent_spec.policy_state_size])
    before = team(obs, policy_state)[0].numpy()[0]
    assert len(np.unique(before[:, 0])) == 3
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(team(obs, policy_state)[0][:, 1])
    weights = [team.networks[i].trainable_variables for i in range(3)]
    others, own, last = tape.gradient(loss, weights)
    assert all(g is None or not np.any(g) for g in [*others, *last])
    assert all(g is not None for g in own)


def test_a_feed_forward_agent_computes_its_layers_and_remembers_nothing(spec):
    team = AgentTeam(agent_spec(spec, architecture="feed_forward", layers=1, last_action=False))
    reset_weights(team, SEED)
    assert team.agent_spec.policy_state_size == 0
    first, first_bias, head, head_bias = (w.numpy() for w in team.networks[0].weights)
    obs = np.random.default_rng(0).normal(size=[2, 3, 5]).astype(np.float32)
    inputs = np.concatenate([obs, np.broadcast_to(np.eye(3), [2, 3, 3])], -1)
    wanted = np.maximum(inputs @ first + first_bias, 0) @ head + head_bias
    np.testing.assert_allclose(team(obs, tf.zeros([2, 3, 0]))[0], wanted, atol=1e-5)


def test_unrolls_own_gradient_equals_automatic_differentiation_step_by_step(spec):
    batch = make_batch(spec)
    agent = AgentTeam(agent_spec(spec))
    reset_weights(agent, SEED)
    of_q = tf.random.stateless_normal([4, 7, 3, 4], [5, 6])
    of_hidden = tf.random.stateless_normal([4, 7, 3, 8], [5, 7])
    weights = [*agent.trainable_variables]

    @tf.function(jit_compile=True)
    def compiled():
        with tf.GradientTape() as tape:
            tape.watch(batch.obs)
            q, hidden = agent.unroll(batch.obs, batch.action)
            loss = tf.reduce_sum(of_q * q) + tf.reduce_sum(of_hidden * hidden)
        return tape.gradient(loss, [batch.obs, *weights])

    with tf.GradientTape() as tape:
        tape.watch(batch.obs)
        policy_state = tf.zeros([4, 3, agent.agent_spec.policy_state_size])
        loss = tf.constant(0.0)
        for t in range(7):
            q, hidden = agent(batch.obs[:, t], policy_state)
            loss += tf.reduce_sum(of_q[:, t] * q) + tf.reduce_sum(of_hidden[:, t] * hidden)
            policy_state = next_policy_state(agent.agent_spec, hidden, batch.action[:, min(t, 5)])
    for found, wanted in zip(compiled(), tape.gradient(loss, [batch.obs, *weights]), strict=True):
        assert np.any(found)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


def test_agents_differ_by_their_id_alone(spec):
    same = tf.ones([1, 3, spec.obs_size])
    for agent_id in (True, False):
        agent = AgentTeam(agent_spec(spec, agent_id=agent_id))
        reset_weights(agent, SEED)
        q = agent(same, tf.zeros([1, 3, agent.agent_spec.policy_state_size]))[0].numpy()[0]
        assert np.allclose(q[0], q[1]) is not agent_id


def test_agent_has_the_published_number_of_weights():
    size = AgentSpec(
        obs_size=18, n_agents=3, n_actions=5, hidden_size=64, last_action=True, agent_id=True
    )
    agent = AgentTeam(size)
    assert size.n_inputs == 26 and size.policy_state_size == 69
    assert count(agent) == (26 * 64 + 64) + 2 * (64 * 192 + 192) + (64 * 5 + 5)
    weights = RecurrentWeights(*agent.read_weights()[0])
    q, hidden = recurrent_step(weights, tf.zeros([2, 26]), tf.zeros([2, 64]))
    assert q.shape == [2, 5] and hidden.shape == [2, 64]


@pytest.mark.parametrize("layers", [1, 2])
def test_qmix_mixer_has_the_published_number_of_weights(layers):
    n, s, e, h = 8, 216, 32, 64
    last = s * e + e + s * e + e + e + 1
    published = {
        1: s * n * e + n * e + s * e + e + last,
        2: 2 * (h * s + h) + h * n * e + n * e + h * e + e + last,
    }
    assert count(MonotonicMixer(n, s, e, h, layers)) == published[layers]


# What the theory promises: the best joint action is every agent's own best one.
FACTORISED = {
    "additive": AdditiveMixer,
    "monotonic, 1 layer": lambda: MonotonicMixer(3, 11, 8, 16, 1),
    "monotonic, 2 layers": lambda: MonotonicMixer(3, 11, 8, 16, 2),
    "attention": lambda: AttentionMixer(11, 6, 8, 16, 4),
    "attention, no bias": lambda: AttentionMixer(11, 6, 8, 16, 4, has_bias=False),
    "duplex": lambda: DuplexMixer(3, 4, 11, 16, 10, 3),
}


@pytest.mark.parametrize("name", FACTORISED)
def test_no_agent_value_lowers_the_team_value(name):
    agent_q = tf.random.stateless_normal([4, 7, 3], seed=[0, 1])
    state = tf.random.stateless_normal([4, 7, 11], seed=[0, 2])
    obs = tf.random.stateless_normal([4, 7, 3, 6], seed=[0, 3])
    mixer = FACTORISED[name]()
    reset_weights(mixer, SEED)
    with tf.GradientTape() as tape:
        tape.watch(agent_q)
        action = tf.ones([4, 7, 3], tf.int32)
        q_tot = mixer(agent_q, state, agent_max_q=agent_q + 1.0, action=action, obs=obs)
    slope = tape.gradient(q_tot, agent_q)
    assert q_tot.shape == [4, 7]
    assert np.all(slope >= 0.0) and np.any(slope > 0.0)


def test_qmix_mixer_computes_the_papers_formula():
    n, s, e = 2, 3, 4
    mixer = MonotonicMixer(n, s, e, 5, 1)
    reset_weights(mixer, SEED)
    q, state = np.asarray([0.3, -1.2], np.float32), np.asarray([0.5, -0.7, 2.0], np.float32)

    def linear(layer, x):
        return x @ layer.kernel.numpy() + layer.bias.numpy()

    w1 = np.abs(linear(mixer.hyper_w1.linears[0], state)).reshape(n, e)
    x = q @ w1 + linear(mixer.hyper_b1, state)
    x = np.where(x > 0, x, np.exp(x) - 1)
    first, second = mixer.state_value.linears
    value = linear(second, np.maximum(linear(first, state), 0))[0]
    wanted = x @ np.abs(linear(mixer.hyper_wf.linears[0], state)) + value
    found = mixer(q[None, None], state[None, None])
    np.testing.assert_allclose(found.numpy()[0, 0], wanted, rtol=1e-5)


def best_team_actions(mixer):
    """The best joint action of 5 random states by enumeration, and the agents' own best ones."""
    reset_weights(mixer, SEED)
    agent_q = tf.random.stateless_normal([5, 3, 4], [7, 8])  # [B, N, A]
    state = tf.random.stateless_normal([5, 1, 11], [9, 9])
    obs = tf.random.stateless_normal([5, 1, 3, 6], [9, 10])
    highest = tf.reduce_max(agent_q, -1)[:, None]
    joint = list(itertools.product(range(4), repeat=3))
    values = []
    for chosen in joint:
        action = tf.constant([chosen] * 5)
        taken = tf.gather(agent_q, action, axis=2, batch_dims=2)[:, None]
        values.append(
            mixer(taken, state, agent_max_q=highest, action=action[:, None], obs=obs)[:, 0]
        )
    return np.asarray(joint)[np.argmax(values, 0)], np.argmax(agent_q, -1)


@pytest.mark.parametrize("name", FACTORISED)
def test_best_team_action_is_every_agents_own_best(name):
    np.testing.assert_array_equal(*best_team_actions(FACTORISED[name]()))


def test_the_unrestricted_mixer_promises_no_such_thing():
    best, own = best_team_actions(UnrestrictedMixer(3, 11, 32))
    assert not np.array_equal(best, own)


def test_qatten_computes_the_papers_formula():
    mixer = AttentionMixer(state_size=3, obs_size=4, embed=5, hypernet_embed=6, heads=2)
    reset_weights(mixer, SEED)
    random = np.random.default_rng(0)
    q, state, obs = random.normal(size=2), random.normal(size=3), random.normal(size=[2, 4])

    def mlp(layer, x):
        for linear in layer.linears[:-1]:
            x = np.maximum(x @ linear.kernel.numpy() + linear.bias.numpy(), 0)
        return x @ layer.linears[-1].kernel.numpy() + layer.linears[-1].bias.numpy()

    wanted = mlp(mixer.constant, state)[0]
    for head in range(2):
        key = obs @ mixer.key[head].kernel.numpy() + mixer.key[head].bias.numpy()
        logits = key @ mlp(mixer.query[head], state) / np.sqrt(5)
        share = np.exp(logits) / np.exp(logits).sum()
        wanted += abs(mlp(mixer.head_weight, state)[head]) * (share @ q)
    q, state, obs = (tf.constant(x[None, None], tf.float32) for x in (q, state, obs))
    np.testing.assert_allclose(mixer(q, state, obs=obs).numpy()[0, 0], wanted, rtol=1e-5)


def test_qplex_is_the_sum_at_the_best_actions_and_less_elsewhere():
    mixer = DuplexMixer(2, 3, 4, 8, 3, 2)
    reset_weights(mixer, SEED)
    state, best = tf.random.stateless_normal([1, 1, 4], [1, 1]), tf.constant([[[2.0, 1.0]]])
    action = tf.constant([[[0, 1]]])
    scale, shift = tf.abs(mixer.scale(state)), mixer.shift(state)
    at_best = mixer(best, state, agent_max_q=best, action=action)
    np.testing.assert_allclose(at_best, tf.reduce_sum(scale * best + shift, -1), rtol=1e-5)
    worse = mixer(best - 0.5, state, agent_max_q=best, action=action)
    assert worse < at_best


def test_additive_and_independent_mixers():
    agent_q = tf.constant([[[1.0, 2.0, -4.0]]])
    np.testing.assert_array_equal(AdditiveMixer()(agent_q, tf.zeros([1, 1, 2])), [[-1.0]])
    np.testing.assert_array_equal(IndependentMixer()(agent_q, tf.zeros([1, 1, 2])), agent_q)


def test_joint_q_reads_the_sum_of_encoded_agents():
    joint = JointQ(state_size=4, hidden_size=3, n_actions=2, embed=6)
    reset_weights(joint, SEED)
    random = np.random.default_rng(0)
    state = random.normal(size=[4]).astype(np.float32)
    hidden = random.normal(size=[3, 3]).astype(np.float32)
    action = [1, 0, 1]

    def linear(layer, x):
        return x @ layer.kernel.numpy() + layer.bias.numpy()

    def relu(x):
        return np.maximum(x, 0)

    codes = [
        linear(joint.encode_out, relu(linear(joint.encode, np.concatenate([h, np.eye(2)[a]]))))
        for h, a in zip(hidden, action, strict=True)
    ]
    x = relu(linear(joint.first, np.concatenate([state, sum(codes)])))
    second, last = joint.rest.linears
    wanted = linear(last, relu(linear(second, x)))[0]
    found = joint(state[None, None], hidden[None, None], tf.constant([[action]]))
    np.testing.assert_allclose(found.numpy()[0, 0], wanted, rtol=1e-4)


def test_counterfactual_q_looks_at_the_others_actions_and_not_at_its_own():
    joint = CounterfactualQ(n_agents=3, state_size=4, hidden_size=5, n_actions=2, embed=6)
    reset_weights(joint, SEED)
    state = tf.random.stateless_normal([1, 1, 4], [1, 1])
    hidden = tf.random.stateless_normal([1, 1, 3, 5], [1, 2])
    values = {
        a: joint(state, hidden, tf.constant([[a]])).numpy()[0, 0]
        for a in itertools.product(range(2), repeat=3)
    }
    for i in range(3):
        for a in values:
            own = list(a)
            own[i] = 1 - own[i]
            np.testing.assert_allclose(values[a][i], values[tuple(own)][i], atol=1e-6)
            other = list(a)
            other[(i + 1) % 3] = 1 - other[(i + 1) % 3]
            assert not np.allclose(values[a][i], values[tuple(other)][i], atol=1e-4)


def test_counterfactual_q_adds_what_the_paper_adds():
    joint = CounterfactualQ(n_agents=3, state_size=4, hidden_size=5, n_actions=2, embed=6)
    reset_weights(joint, SEED)
    random = np.random.default_rng(0)
    state = random.normal(size=[4]).astype(np.float32)
    hidden = random.normal(size=[3, 5]).astype(np.float32)
    action = [0, 1, 0]

    def mlp(linears, x):
        for linear in linears[:-1]:
            x = np.maximum(x @ linear.kernel.numpy() + linear.bias.numpy(), 0)
        return x @ linears[-1].kernel.numpy() + linears[-1].bias.numpy()

    def taken(j):  # h_Q,j
        read = np.concatenate([hidden[j], np.eye(2)[action[j]]])
        return mlp([joint.encode, joint.encode_out], read)

    own = mlp([joint.own, joint.own_out], hidden[1])  # h_V,1
    read = np.concatenate([state, np.eye(3)[1], own, taken(0) + taken(2)])
    found = joint(state[None, None], hidden[None, None], tf.constant([[action]]))
    wanted = mlp([joint.first, *joint.rest.linears], read)
    np.testing.assert_allclose(found.numpy()[0, 0, 1], wanted, rtol=1e-4)


@pytest.mark.parametrize("kind", ["base", "alt"])
def test_qtrans_joint_networks_tell_who_takes_which_action(kind):
    sizes = {"state_size": 4, "hidden_size": 5, "n_actions": 2, "embed": 6}
    joint = JointQ(**sizes) if kind == "base" else CounterfactualQ(n_agents=3, **sizes)
    reset_weights(joint, SEED)
    state = tf.random.stateless_normal([1, 1, 4], [1, 1])
    hidden = tf.random.stateless_normal([1, 1, 3, 5], [1, 2])
    # The same actions, of agents 1 and 2 the other way round: agent 0 must see it.
    first, second = (joint(state, hidden, tf.constant([[a]])) for a in ([0, 0, 1], [0, 1, 0]))
    first, second = (np.ravel(x[0, 0] if kind == "base" else x[0, 0, 0]) for x in (first, second))
    assert not np.allclose(first, second, atol=1e-4)


@pytest.mark.parametrize("kind", ["state", "zero", "features"])
def test_state_value_reads_what_its_name_says(kind):
    value = StateValue(kind, 4, 5, 6)
    reset_weights(value, SEED)
    state = tf.random.stateless_normal([2, 3, 4], [1, 1])
    hidden = tf.random.stateless_normal([2, 3, 2, 5], [1, 2])
    with tf.GradientTape() as tape:
        tape.watch([state, hidden])
        found = value(state, hidden)
    of_state, of_hidden = tape.gradient(found, [state, hidden])
    assert found.shape == [2, 3]
    assert (of_state is not None, of_hidden is not None) == {
        "state": (True, False),
        "zero": (False, False),
        "features": (False, True),
    }[kind]
