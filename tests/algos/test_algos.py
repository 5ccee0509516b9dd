"""Losses against the papers' formulas, written out step by step in NumPy."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import make_batch
from tfmix import algos
from tfmix.algos import REGISTRY
from tfmix.config.schema import FIELDS, Config
from tfmix.errors import UserError
from tfmix.training.learner import Learner

SEED = tf.constant([1, 2])


def build(name, spec, config, **changes):
    algorithm = algos.make(name, spec, dataclasses.replace(config, algo=name, **changes))
    algorithm.init_weights(SEED)
    # A target unlike the live networks, as in the middle of a training.
    for i, weight in enumerate(algorithm.target.variables):
        weight.assign_add(0.1 * tf.random.stateless_normal(weight.shape, [i, 5]))
    return algorithm


def gradients(algorithm, *batches):
    """Returns the loss of each batch and its gradient, compiled once."""

    @tf.function(jit_compile=True, autograph=False)
    def compiled(batch):
        with tf.GradientTape() as tape:
            loss, _ = algorithm.loss(batch)
        return loss, tape.gradient(loss, algorithm.live.trainable_variables)

    for loss, found in map(compiled, batches):
        yield float(loss), [None if g is None else g.numpy() for g in found]


def real_steps(batch):
    """Every real step as (b, t)."""
    return np.argwhere(batch.mask.numpy() > 0)


def best(q, legal):
    return int(np.argmax(np.where(legal, q, -np.inf)))


class Numbers:
    """All networks' outputs as arrays, and lookups for the formulas below."""

    def __init__(self, algorithm, batch, double_q=True):
        self.algorithm, self.batch = algorithm, batch
        self.q, self.h = (x.numpy() for x in algorithm.live.agent.unroll(batch.obs, batch.action))
        self.tq, self.th = (
            x.numpy() for x in algorithm.target.agent.unroll(batch.obs, batch.action)
        )
        self.legal, self.action = batch.legal.numpy(), batch.action.numpy()
        self.double_q = double_q
        self.n = self.q.shape[2]

    def greedy(self, b, t):
        return [best(self.q[b, t, i], self.legal[b, t, i]) for i in range(self.n)]

    def next_action(self, b, t):
        q = self.q if self.double_q else self.tq
        return [best(q[b, t, i], self.legal[b, t, i]) for i in range(self.n)]

    def at(self, q, b, t, action):
        return np.asarray([q[b, t, i, a] for i, a in enumerate(action)], np.float32)

    def target(self, b, t, value):
        r, d = self.batch.reward.numpy()[b, t], self.batch.terminated.numpy()[b, t]
        return r + self.algorithm.config.gamma * (1 - d) * value

    def joint(self, networks, hidden, b, t, action):
        state = self.batch.state[b : b + 1, t : t + 1]
        found = networks.joint(state, hidden[b : b + 1, t : t + 1], tf.constant([[action]]))
        return found.numpy()[0, 0]

    def mix(self, networks, q, b, t, agent_q, action):
        """The mixer's value of an action, with each agent's best legal value beside it."""
        here = slice(b, b + 1), slice(t, t + 1)
        highest = [max(q[b, t, i][self.legal[b, t, i]], default=0.0) for i in range(self.n)]
        found = networks.mixer(
            agent_q[None, None],
            self.batch.state[here],
            agent_max_q=tf.constant([[highest]], tf.float32),
            action=tf.constant([[list(action)]]),
            obs=self.batch.obs[here],
        )
        return found.numpy()[0, 0]

    def value(self, b, t):
        state = self.batch.state[b : b + 1, t : t + 1]
        return self.algorithm.live.value(state, self.h[b : b + 1, t : t + 1]).numpy()[0, 0]


@pytest.mark.parametrize("double_q", [True, False])
@pytest.mark.parametrize("name", ["iql", "vdn", "qmix", "qatten", "qplex"])
def test_mixing_loss_is_the_papers(name, double_q, spec, config, batch):
    algorithm = build(name, spec, config, double_q=double_q)
    x = Numbers(algorithm, batch, double_q)
    errors = []
    for b, t in real_steps(batch):
        taken = x.at(x.q, b, t, x.action[b, t])
        following = x.at(x.tq, b, t + 1, x.next_action(b, t + 1))
        mixed = x.mix(algorithm.live, x.q, b, t, taken, x.action[b, t])
        after = x.mix(algorithm.target, x.tq, b, t + 1, following, x.next_action(b, t + 1))
        errors.append(np.square(mixed - x.target(b, t, after)))
    np.testing.assert_allclose(algorithm.loss(batch)[0], np.mean(errors), rtol=1e-4)


def test_qplex_alpha_weighs_the_agents_gradient_alone(spec, config, batch):
    """Of Q'_i the shift's last bias has slope 1, so its gradient is the mean of 2 w (Q_tot - y)."""
    plain, weighted = (build("qplex", spec, config, duplex_alpha=a) for a in (1.0, 0.3))
    x, mixer = Numbers(weighted, batch), weighted.live.mixer
    slopes, full = [], []
    for b, t in real_steps(batch):
        action = x.action[b, t]
        taken = x.at(x.q, b, t, action)
        mixed = x.mix(weighted.live, x.q, b, t, taken, action)
        following = x.next_action(b, t + 1)
        ahead = x.at(x.tq, b, t + 1, following)
        goal = x.target(b, t, x.mix(weighted.target, x.tq, b, t + 1, ahead, following))
        greedy = x.greedy(b, t)
        here = batch.state[b : b + 1, t : t + 1]
        highest = mixer.own(x.at(x.q, b, t, greedy)[None, None], here).numpy().sum()
        full.append(list(action) == greedy or goal > highest)
        slopes.append(2 * (mixed - goal) * (1.0 if full[-1] else 0.3))
    assert 0 < sum(full) < len(full)
    (loss, one), (same, other) = (next(gradients(a, batch)) for a in (plain, weighted))
    np.testing.assert_allclose(loss, same, rtol=1e-6)
    places = {v.ref(): i for i, v in enumerate(weighted.live.trainable_variables)}
    bias = places[mixer.shift.linears[-1].bias.ref()]
    np.testing.assert_allclose(other[bias], [np.mean(slopes)] * spec.n_agents, rtol=1e-3)
    assert not np.allclose(one[bias], other[bias])
    for part in (*mixer.keys, *mixer.agents, *mixer.actions):
        for i in (places[v.ref()] for v in part.trainable_variables):
            np.testing.assert_allclose(one[i], other[i], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["cw_qmix", "ow_qmix"])
def test_wqmix_loss_is_the_papers(name, spec, config, batch):
    algorithm = build(name, spec, config, wqmix_alpha=0.3, central_embed=12)
    batch = batch._replace(reward=5.0 * batch.reward)  # values on both sides of y
    x = Numbers(algorithm, batch)
    live, target = algorithm.live, algorithm.target
    cq = live.central_agent.unroll(batch.obs, batch.action)[0].numpy()
    tq = target.central_agent.unroll(batch.obs, batch.action)[0].numpy()

    def star(networks, q, b, t, action):
        state = batch.state[b : b + 1, t : t + 1]
        found = networks.central_mixer(x.at(q, b, t, action)[None, None], state)
        return found.numpy()[0, 0]

    central, mixed, weights = [], [], []
    for b, t in real_steps(batch):
        action = list(x.action[b, t])
        y = x.target(b, t, star(target, tq, b, t + 1, x.greedy(b, t + 1)))
        q_tot = live.mixer(
            x.at(x.q, b, t, action)[None, None], batch.state[b : b + 1, t : t + 1]
        ).numpy()[0, 0]
        full = q_tot < y
        if name == "cw_qmix":
            full = action == x.greedy(b, t) or y > star(target, tq, b, t, x.greedy(b, t))
        weights.append(1.0 if full else 0.3)
        central.append((star(live, cq, b, t, action) - y) ** 2)
        mixed.append(weights[-1] * (q_tot - y) ** 2)
    assert len(set(weights)) == 2
    loss, metrics = algorithm.loss(batch)
    np.testing.assert_allclose(metrics["weight"], np.mean(weights), rtol=1e-5)
    np.testing.assert_allclose(metrics["loss_central"], np.mean(central), rtol=1e-4)
    np.testing.assert_allclose(metrics["loss_qmix"], np.mean(mixed), rtol=1e-4)
    np.testing.assert_allclose(loss, np.mean(central) + np.mean(mixed), rtol=1e-4)


@pytest.mark.parametrize("double_q", [True, False])
def test_qtran_base_loss_is_the_papers(double_q, spec, config, batch):
    algorithm = build(
        "qtran_base", spec, config, opt_loss=0.7, nopt_min_loss=0.3, double_q=double_q
    )
    x = Numbers(algorithm, batch, double_q)
    td, opt, nopt = [], [], []
    for b, t in real_steps(batch):
        action, greedy = list(x.action[b, t]), x.greedy(b, t)
        joint = x.joint(algorithm.live, x.h, b, t, action)
        after = x.joint(algorithm.target, x.th, b, t + 1, x.next_action(b, t + 1))
        td.append((joint - x.target(b, t, after)) ** 2)
        gap = x.at(x.q, b, t, greedy).sum() - x.joint(algorithm.live, x.h, b, t, greedy)
        opt.append((gap + x.value(b, t)) ** 2)
        nopt.append(min(x.at(x.q, b, t, action).sum() - joint + x.value(b, t), 0) ** 2)
    loss, metrics = algorithm.loss(batch)
    np.testing.assert_allclose(metrics["loss_td"], np.mean(td), rtol=1e-4)
    np.testing.assert_allclose(metrics["loss_opt"], np.mean(opt), rtol=1e-4)
    np.testing.assert_allclose(metrics["loss_nopt"], np.mean(nopt), rtol=1e-4)
    wanted = np.mean(td) + 0.7 * np.mean(opt) + 0.3 * np.mean(nopt)
    np.testing.assert_allclose(loss, wanted, rtol=1e-4)


@pytest.mark.parametrize("name", REGISTRY)
@pytest.mark.parametrize(
    "kind", [{"td_lambda": 0.7}, {"td_lambda": 0.7, "q_lambda": True}, {"n_step": 3}], ids=str
)
def test_every_algorithm_takes_longer_returns(name, kind, spec, config, batch):
    """With one step left, or a taken action that is the greedy one, they are the short ones."""
    short = build(name, spec, config)
    long = build(name, spec, config, **kind)
    one = make_batch(spec, lengths=(1, 1, 1, 1))
    np.testing.assert_allclose(long.loss(one)[0], short.loss(one)[0], rtol=1e-6)
    loss, metrics = long.loss(batch)
    assert np.isfinite(loss)
    assert not np.isclose(metrics["target"], short.loss(batch)[1]["target"], rtol=1e-3)


def test_q_lambda_takes_the_taken_actions_values_from_the_target_networks(spec, config, batch):
    algorithm = build("qmix", spec, config, td_lambda=0.7, q_lambda=True)
    x = Numbers(algorithm, batch)
    reward, over = batch.reward.numpy(), batch.terminated.numpy()
    errors = []
    for b, end in enumerate(batch.mask.numpy().sum(1).astype(int)):
        later = None  # G_{t+1} - Q_{t+1}
        for t in reversed(range(end)):
            action, following = x.action[b, t], x.next_action(b, t + 1)
            ahead = x.at(x.tq, b, t + 1, following)
            value = x.mix(algorithm.target, x.tq, b, t + 1, ahead, following)
            taken = x.mix(algorithm.target, x.tq, b, t, x.at(x.tq, b, t, action), action)
            goal = reward[b, t] + 0.9 * (1 - over[b, t]) * (value + 0.7 * (later or 0.0))
            live = x.mix(algorithm.live, x.q, b, t, x.at(x.q, b, t, action), action)
            errors.append((live - goal) ** 2)
            later = goal - taken
    np.testing.assert_allclose(algorithm.loss(batch)[0], np.mean(errors), rtol=1e-4)


@pytest.mark.parametrize("name", REGISTRY)
@pytest.mark.parametrize("kind", [{"recurrent": False}, {"share_parameters": False}], ids=str)
def test_every_algorithm_takes_every_kind_of_agent(name, kind, spec, config, batch):
    algorithm = build(name, spec, config, **kind)
    with tf.GradientTape() as tape:
        loss, _ = algorithm.loss(batch)
    assert np.isfinite(loss)
    assert all(np.any(g) for g in tape.gradient(loss, algorithm.live.trainable_variables))
    assert len(algorithm.live.agent.networks) == (1 if algorithm.config.share_parameters else 3)


def test_qattens_logit_loss_is_the_mean_square_of_its_logits(spec, config, batch):
    plain = build("qatten", spec, config, attention_bias=False)
    extra = build("qatten", spec, config, attention_bias=False, attention_logit_loss=0.5)
    assert all(key.bias is None for key in plain.live.mixer.key)
    total = []
    for b, t in real_steps(batch):
        for query, key in zip(extra.live.mixer.query, extra.live.mixer.key, strict=True):
            asked = query(batch.state[b, t][None])[0]
            answers = batch.obs[b, t].numpy() @ key.kernel.numpy()
            total.append(np.mean((answers @ asked.numpy()) ** 2))
    wanted = np.mean(np.reshape(total, [-1, 4]).sum(1))
    np.testing.assert_allclose(extra.loss(batch)[1]["loss_logit"], wanted, rtol=1e-4)
    np.testing.assert_allclose(extra.loss(batch)[0] - plain.loss(batch)[0], 0.5 * wanted, rtol=1e-3)


def nopt_min(gaps, at_taken, slack):
    """L_nopt-min of a step: `gaps` holds D_i over each agent's legal actions, at_taken D_i(u_i)."""
    least = [min(gap) for gap in gaps if len(gap) > 1]
    if not least:
        return np.mean([min(gap, 0) ** 2 for gap in at_taken])
    return np.mean([min(m, 0) ** 2 + slack * max(m, 0) ** 2 for m in least])


@pytest.mark.parametrize("double_q", [True, False])
@pytest.mark.parametrize("kind,slack", [("state", 1.0), ("zero", 0.2), ("features", 0.0)])
def test_qtran_alt_loss_is_the_papers(kind, slack, double_q, spec, config, batch):
    weights = {"opt_loss": 0.7, "nopt_min_loss": 0.3, "qtran_slack": slack}
    algorithm = build(
        "qtran_alt", spec, config, qtran_state_value=kind, double_q=double_q, **weights
    )
    x = Numbers(algorithm, batch, double_q)
    td, opt, nopt = [], [], []
    for b, t in real_steps(batch):
        action, greedy = list(x.action[b, t]), x.greedy(b, t)
        following = x.next_action(b, t + 1)
        value = x.value(b, t)
        taken = x.at(x.q, b, t, action)
        own = x.joint(algorithm.live, x.h, b, t, action)  # [N, A]
        at_greedy = x.joint(algorithm.live, x.h, b, t, greedy)
        after = x.joint(algorithm.target, x.th, b, t + 1, following)
        gaps, at_taken = [], []
        for i in range(x.n):
            td.append((own[i, action[i]] - x.target(b, t, after[i, following[i]])) ** 2)
            gap = x.at(x.q, b, t, greedy).sum() - at_greedy[i, greedy[i]] + value
            opt.append(gap**2)
            gap = x.q[b, t, i] + taken.sum() - taken[i] - own[i] + value  # [A]
            gaps.append(gap[x.legal[b, t, i]])
            at_taken.append(gap[action[i]])
        nopt.append(nopt_min(gaps, at_taken, slack))
    loss, metrics = algorithm.loss(batch)
    np.testing.assert_allclose(metrics["loss_td"], np.mean(td), rtol=1e-4)
    np.testing.assert_allclose(metrics["loss_opt"], np.mean(opt), rtol=1e-4)
    np.testing.assert_allclose(metrics["loss_nopt_min"], np.mean(nopt), rtol=1e-4)
    wanted = np.mean(td) + 0.7 * np.mean(opt) + 0.3 * np.mean(nopt)
    np.testing.assert_allclose(loss, wanted, rtol=1e-4)


def test_an_agent_with_one_legal_action_asks_nothing_of_qtran_alt(spec, config, batch):
    """Its smallest gap is the gap at the joint action: equality there would be VDN's fit."""
    algorithm = build("qtran_alt", spec, config, qtran_slack=1.0)
    x = Numbers(algorithm, batch)
    taken = tf.one_hot(batch.action, spec.n_actions, True, False)
    taken = tf.concat([taken, taken[:, -1:]], 1)  # [B, T+1, N, A]

    def wanted(choosing):
        """The mean over steps and agents; with no agent that chooses, condition 4b."""
        parts = []
        for b, t in real_steps(batch):
            action = list(x.action[b, t])
            own = x.joint(algorithm.live, x.h, b, t, action)
            sums = x.at(x.q, b, t, action).sum() + x.value(b, t)
            gaps = [
                sums - x.q[b, t, i, action[i]] + x.q[b, t, i] - own[i] for i in range(spec.n_agents)
            ]
            for i in choosing or range(spec.n_agents):
                parts.append(min(gaps[i]) if choosing else min(gaps[i][action[i]], 0))
        return np.mean(np.square(parts))

    for choosing in ((0, 1), (2,), ()):
        chooses = tf.reduce_any(tf.range(3)[:, None] == [choosing or -1], -1)[:, None]
        _, metrics = algorithm.loss(batch._replace(legal=taken | chooses))
        np.testing.assert_allclose(metrics["loss_nopt_min"], wanted(choosing), rtol=1e-4)
    nothing = batch._replace(legal=tf.zeros_like(batch.legal))
    ((loss, found),) = gradients(algorithm, nothing)
    assert np.isfinite(loss) and all(np.all(np.isfinite(g)) for g in found if g is not None)


@pytest.mark.parametrize("name", REGISTRY)
def test_padding_and_illegal_values_change_nothing_nan_included(name, spec, config):
    from tfmix import ops

    clean = make_batch(spec)
    algorithm = build(name, spec, config)
    real = clean.mask.numpy() > 0
    seen = np.concatenate([np.ones_like(real[:, :1]), real], 1)
    non_finite = clean._replace(
        obs=tf.constant(np.where(seen[..., None, None], clean.obs, np.nan), tf.float32),
        state=tf.constant(np.where(seen[..., None], clean.state, np.nan), tf.float32),
        reward=tf.constant(np.where(real, clean.reward, np.nan), tf.float32),
        action=tf.constant(np.where(real[..., None], clean.action, 3), tf.int32),
        legal=clean.legal | ~seen[..., None, None],
    )
    given = (clean, ops.clear_padding(non_finite))
    (loss, wanted), (other, found) = gradients(algorithm, *given)
    assert np.isfinite(loss) and loss == other
    np.testing.assert_allclose(loss, algorithm.loss(clean)[0], rtol=1e-5)  # without a compiler
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", REGISTRY)
def test_targets_learn_nothing_and_every_live_weight_learns(name, spec, config, batch):
    algorithm = build(name, spec, config)
    with tf.GradientTape() as tape:
        loss, _ = algorithm.loss(batch)
    live, target = algorithm.live.trainable_variables, algorithm.target.trainable_variables
    of_live, of_target = tape.gradient(loss, [live, target])
    assert all(g is None for g in of_target)
    assert all(np.any(g.numpy() != 0) for g in of_live)


def recorded(config):
    """Returns a copy of the settings, and the set of the names that are read from it."""
    read = set()

    class Recorded(Config):
        def __getattribute__(self, name):
            if name in FIELDS:
                read.add(name)
            return super().__getattribute__(name)

    copy = Recorded(**{name: getattr(config, name) for name in FIELDS})
    read.clear()
    return copy, read


@pytest.mark.parametrize("name", REGISTRY)
@pytest.mark.parametrize(
    "kind", [{}, {"td_lambda": 0.7, "recurrent": False}, {"share_parameters": False}], ids=str
)
def test_an_algorithm_declares_the_settings_that_it_reads(name, kind, spec, config, batch):
    config = dataclasses.replace(config, algo=name, **kind)
    copy, read = recorded(config)
    algorithm = algos.make(name, spec, copy)
    algorithm.loss(batch)
    assert read == type(algorithm).settings_read(config)


@pytest.mark.parametrize("name", REGISTRY)
def test_an_algorithm_declares_its_networks(name, spec, config, batch):
    algorithm = algos.make(name, spec, config)
    live = algorithm.live
    assert hasattr(live, "mixer") == algorithm.has_mixer
    assert hasattr(live, "central_agent") == (algorithm.critic == "central")
    assert hasattr(live, "joint") == (algorithm.critic in ("joint", "counterfactual"))
    if hasattr(live, "joint"):
        _, hidden = live.agent.unroll(batch.obs, batch.action)
        values = live.joint(batch.state[:, :-1], hidden[:, :-1], batch.action)
        assert (values.shape.rank == 4) == (algorithm.critic == "counterfactual")


WRONG = [
    ("obs", (4, 7, 3, 6), r"obs has shape \[4, 7, 3, 6\] and must have \[B, T\+1, N, O\]"),
    ("obs", (4, 6, 3, 5), r"must have \[B, T\+1, N, O\] with B = 4, N = 3, O = 5"),
    ("state", (4, 7, 8), r"state has shape \[4, 7, 8\] and must have \[B, T\+1, S\]"),
    ("legal", (4, 7, 3, 5), r"legal has shape \[4, 7, 3, 5\] and must have \[B, T\+1, N, A\]"),
    ("action", (4, 6, 2), r"action has shape \[4, 6, 2\] and must have \[B, T, N\] with B = 4"),
    ("reward", (4, 6, 1), r"reward has shape \[4, 6, 1\] and must have \[B, T\]"),
    ("mask", (4, 5), r"mask has shape \[4, 5\] and must have \[B, T\] with B = 4, T = 6"),
]


@pytest.mark.parametrize("field,shape,text", WRONG)
def test_a_batch_of_a_wrong_shape_is_refused_when_the_update_is_traced(
    field, shape, text, spec, config, batch
):
    learner = Learner(algos.make("vdn", spec, config))
    given = batch._replace(**{field: tf.zeros(shape, getattr(batch, field).dtype)})
    specs = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), given)
    with pytest.raises(ValueError, match=text):
        learner.update.get_concrete_function(
            specs, tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.float32)
        )


def test_a_step_of_a_wrong_shape_is_refused(spec, config):
    algorithm = algos.make("vdn", spec, config)
    size = algorithm.agent_spec.policy_state_size
    obs, legal, state = tf.zeros([2, 3, 5]), tf.ones([2, 3, 4], tf.bool), tf.zeros([2, 3, size])
    algorithm.act(obs, legal, state)
    with pytest.raises(ValueError, match=r"obs has shape \[3, 5\] and must have \[B, N, O\]"):
        algorithm.act(obs[0], legal[0], state[0])
    with pytest.raises(ValueError, match=r"policy_state has shape \[2, 3, 11\] .* K = 12"):
        algorithm.act(obs, legal, state[..., 1:])
    with pytest.raises(ValueError, match=r"legal has shape \[2, 3, 5\] .* A = 4"):
        algorithm.act(obs, tf.ones([2, 3, 5], tf.bool), state)


def only(algorithm, batch, part):
    """The gradient of one part of the loss in each live weight, None where there is none."""
    with tf.GradientTape() as tape:
        _, metrics = algorithm.loss(batch)
        value = metrics[part]
    weights = algorithm.live.trainable_variables
    return dict(zip((w.ref() for w in weights), tape.gradient(value, weights), strict=True))


@pytest.mark.parametrize(
    "name,parts",
    [("qtran_base", ("loss_opt", "loss_nopt")), ("qtran_alt", ("loss_opt", "loss_nopt_min"))],
)
def test_joint_q_is_constant_to_the_losses_that_track_it(name, parts, spec, config, batch):
    algorithm = build(name, spec, config)
    for part in parts:
        found = only(algorithm, batch, part)
        assert all(found[w.ref()] is None for w in algorithm.live.joint.trainable_variables)
        assert all(found[w.ref()] is not None for w in algorithm.live.agent.trainable_variables)
    td = only(algorithm, batch, "loss_td")
    assert all(td[w.ref()] is not None for w in algorithm.live.joint.trainable_variables)
    # L_td reaches the GRU (hidden states are not detached), never the head of the agents.
    agent = algorithm.live.agent
    assert td[agent.networks[0].gates.ref()] is not None
    assert td[agent.networks[0].head.ref()] is None or not np.any(td[agent.networks[0].head.ref()])


@pytest.mark.parametrize("name", ["cw_qmix", "ow_qmix"])
def test_wqmixs_two_losses_train_their_own_networks_alone(name, spec, config, batch):
    """The weight, the bound and the target are constant: nothing flows between the two."""
    live = (algorithm := build(name, spec, config, central_embed=12)).live
    own = {
        "loss_qmix": (live.agent, live.mixer),
        "loss_central": (live.central_agent, live.central_mixer),
    }
    for part, (agent, mixer) in own.items():
        found = only(algorithm, batch, part)
        trained = {w.ref() for w in (*agent.trainable_variables, *mixer.trainable_variables)}
        assert {ref for ref, g in found.items() if g is not None} == trained


def test_acting_is_legal_and_carries_the_last_action(spec, config):
    algorithm = build("vdn", spec, config)
    obs = tf.random.stateless_normal([50, 3, 5], [1, 1])
    legal = tf.random.stateless_uniform([50, 3, 4], [1, 2]) < 0.5
    legal = tf.concat([tf.fill([50, 3, 1], True), legal[..., 1:]], -1)
    policy_state = tf.zeros([50, 3, algorithm.agent_spec.policy_state_size])
    for epsilon in (0.0, 1.0):
        action, q, after = algorithm.act(obs, legal, policy_state, epsilon, (3, 4))
        assert np.all(tf.gather(legal, action, batch_dims=2))
        np.testing.assert_array_equal(after[..., 8:], tf.one_hot(action, 4))
    assert q.shape == [50, 3, 4]


def test_same_seed_same_weights_other_seed_others(spec, config):
    algorithm = algos.make("qmix", spec, config)
    algorithm.init_weights(tf.constant([1, 0]))
    first = [w.numpy() for w in algorithm.live.variables]
    algorithm.init_weights(tf.constant([2, 0]))
    assert not any(
        np.array_equal(w, f) for w, f in zip(algorithm.live.variables, first, strict=True)
    )
    algorithm.init_weights(tf.constant([1, 0]))
    for live, target, f in zip(
        algorithm.live.variables, algorithm.target.variables, first, strict=True
    ):
        np.testing.assert_array_equal(live, f)
        np.testing.assert_array_equal(target, f)


def test_a_misspelt_algorithm_is_told_the_nearest_name(spec, config):
    with pytest.raises(UserError, match="did you mean 'qtran_alt'"):
        algos.make("qtran_allt", spec, config)
