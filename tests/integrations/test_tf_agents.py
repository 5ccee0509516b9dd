"""What TF-Agents sees: policy, agent, replay buffer, environments in the graph and in Python."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfmix import algos
from tfmix.config.schema import Config
from tfmix.envs import make_graph, make_python
from tfmix.integrations.tf_agents.agent import ValueDecompositionAgent
from tfmix.integrations.tf_agents.environments import GraphTFEnvironment, TeamPyEnvironment
from tfmix.integrations.tf_agents.policy import JointPolicy
from tfmix.integrations.tf_agents.replay import EpisodeReplayBuffer
from tfmix.integrations.tf_agents.trajectories import (
    episodes_from_trajectory,
)
from tfmix.training.learner import Learner
from tfmix.types import EnvSpec, Episode, Step
from tfmix.utils.quiet import quiet_import

episode_driver = quiet_import("tf_agents.drivers.dynamic_episode_driver")
step_driver = quiet_import("tf_agents.drivers.dynamic_step_driver")
tf_py_environment = quiet_import("tf_agents.environments.tf_py_environment")
environment_utils = quiet_import("tf_agents.environments.utils")
uniform_buffer = quiet_import("tf_agents.replay_buffers.tf_uniform_replay_buffer")
trajectories = quiet_import("tf_agents.trajectories")

FIRST, MID, LAST = 0, 1, 2
ENVS = ("two_step", "mpe/simple_spread")
PETTINGZOO = "pettingzoo/pettingzoo.mpe.simple_spread_v3"


class Countdown:
    """Row i counts up; odd rows terminate at 2 steps, even rows are cut at 3.

    Every reset draws where to start, so that what a seed decides can be seen.
    """

    spec = EnvSpec("countdown", 2, 3, 1, 1, 3, (3, 2))

    def _seen(self, count, start, reward):
        batch = count.shape[0]
        odd = tf.range(batch) % 2 == 1
        number = start + tf.cast(count, tf.float32)
        legal = tf.constant([[True, True, True], [True, True, False]])
        return Step(
            obs=tf.tile(number[:, None, None], [1, 2, 1]),
            state=number[:, None],
            legal=tf.tile(legal[None], [batch, 1, 1]),
            reward=reward,
            terminated=odd & (count >= 2),
            truncated=~odd & (count >= 3),
        )

    def reset(self, seed, batch):
        count = tf.zeros([batch], tf.int32)
        start = tf.random.stateless_uniform([batch], seed)
        return (count, start), self._seen(count, start, tf.zeros([batch]))

    def step(self, state, action, seed):
        count, start = state[0] + 1, state[1]
        return (count, start), self._seen(count, start, tf.cast(action[:, 0], tf.float32))


def make_algorithm(spec, name="vdn", **settings):
    config = Config(algo=name, hidden_size=8, mixer_embed=4, hypernet_embed=4, **settings)
    algorithm = algos.make(name, spec, config)
    algorithm.init_weights(tf.constant([3, 0]))
    return algorithm


def make_env(name, batch=2, seed=0):
    arguments = ("max_cycles=4",) if name.startswith("mpe") else ()
    return GraphTFEnvironment(make_graph(name, Config(env_arg=arguments)), batch, seed)


def random_time_step(spec, random, batch, step_type):
    legal = random.random([batch, spec.n_agents, spec.n_actions]) < 0.6
    legal[..., 0] = True
    observation = {
        "obs": random.normal(size=[batch, spec.n_agents, spec.obs_size]).astype(np.float32),
        "legal": legal,
        "state": random.normal(size=[batch, spec.state_size]).astype(np.float32),
    }
    return tf.nest.map_structure(
        tf.constant,
        trajectories.TimeStep(
            np.asarray(step_type, np.int32),
            np.zeros([batch], np.float32),
            np.ones([batch], np.float32),
            observation,
        ),
    )


def frames_of(driver_kind, env, policy, **length):
    """What a driver shows its observers, [B, frames, ...]."""
    frames = []
    driver_kind(env, policy, observers=[frames.append], **length).run()
    return tf.nest.map_structure(lambda *x: np.stack(x, 1), *frames)


# JointPolicy


@pytest.mark.parametrize("epsilon", [0.0, 0.5])
@pytest.mark.parametrize("last_action", [False, True])
def test_joint_policy_acts_like_the_algorithm_over_an_episode(epsilon, last_action):
    spec = EnvSpec("", 3, 4, 5, 6, 9, (4, 4, 4))
    algorithm = make_algorithm(spec, last_action=last_action)
    policy = JointPolicy(algorithm, epsilon)
    random = np.random.default_rng(0)
    state, policy_state = (
        policy.get_initial_state(2),
        tf.zeros([2, 3, algorithm.agent_spec.policy_state_size]),
    )
    for t in range(6):
        now = random_time_step(spec, random, 2, [FIRST if t == 0 else MID] * 2)
        seed = tf.constant([5, t])
        step = policy.action(now, state, seed)
        seen = now.observation
        action, _, policy_state = algorithm.act(
            seen["obs"], seen["legal"], policy_state, epsilon, seed
        )
        np.testing.assert_array_equal(step.action, action)
        np.testing.assert_array_equal(step.state, policy_state)
        state = step.state


def test_joint_policy_forgets_only_in_rows_where_an_episode_starts():
    spec = EnvSpec("", 2, 3, 4, 5, 9, (3, 3))
    policy = JointPolicy(make_algorithm(spec))
    now = random_time_step(spec, np.random.default_rng(1), 2, [FIRST, MID])
    used, fresh = tf.ones_like(policy.get_initial_state(2)), policy.get_initial_state(2)
    found = policy.action(now, used).state.numpy()
    everywhere = policy.action(now._replace(step_type=tf.constant([MID, MID])), used).state
    np.testing.assert_array_equal(found[0], policy.action(now, fresh).state[0])
    np.testing.assert_array_equal(found[1], everywhere[1])
    assert not np.array_equal(found[0], everywhere[0])


def test_exploring_draws_legal_actions_that_the_seed_and_the_calls_decide():
    spec = EnvSpec("", 2, 5, 4, 5, 9, (5, 5))
    algorithm = make_algorithm(spec)
    now = random_time_step(spec, np.random.default_rng(2), 64, [FIRST] * 64)

    def draw(policy, seed=None):
        step = policy.action(now, policy.get_initial_state(64), seed)
        assert tf.reduce_all(tf.gather(now.observation["legal"], step.action, batch_dims=2))
        return step.action.numpy()

    one, same, other = (JointPolicy(algorithm, 1.0, seed) for seed in (0, 0, 1))
    first, second = draw(one), draw(one)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, draw(same))
    np.testing.assert_array_equal(second, draw(same))
    assert not np.array_equal(first, draw(other))
    np.testing.assert_array_equal(draw(one, tf.constant(9)), draw(other, tf.constant(9)))


def test_epsilon_may_be_a_variable_or_a_call():
    spec = EnvSpec("", 2, 5, 4, 5, 9, (5, 5))
    algorithm, chance = make_algorithm(spec), tf.Variable(0.0)
    now = random_time_step(spec, np.random.default_rng(2), 64, [FIRST] * 64)
    policy_state = tf.zeros([64, 2, algorithm.agent_spec.policy_state_size])
    greedy = JointPolicy(algorithm).action(now, policy_state).action.numpy()
    for epsilon in (chance, chance.read_value):
        act = tf.function(JointPolicy(algorithm, epsilon).action, autograph=False)
        for value in (0.0, 1.0):
            chance.assign(value)
            found = act(now, policy_state).action.numpy()
            assert np.array_equal(found, greedy) == (value == 0.0)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("fault", ["NaN", "nothing legal", "padding alone is legal"])
def test_joint_policy_refuses_a_step_that_an_agent_cannot_act_on(compiled, fault):
    spec = EnvSpec("", 2, 3, 4, 5, 9, (3, 2))
    policy = JointPolicy(make_algorithm(spec), 0.5)
    act = tf.function(policy.action, autograph=False) if compiled else policy.action
    now = random_time_step(spec, np.random.default_rng(1), 3, [FIRST, MID, MID])
    seen = {name: x.numpy() for name, x in now.observation.items()}
    if fault == "NaN":
        seen["obs"][2, 1, 3] = np.nan
    else:
        seen["legal"][2, 1] = [False, False, fault != "nothing legal"]
    now = now._replace(observation=tf.nest.map_structure(tf.constant, seen))
    policy_state = policy.get_initial_state(3)
    text = "NaN or infinite" if fault == "NaN" else "none of its own actions legal"
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"(?s){text}.*2,? 1"):
        act(now, policy_state)
    # Nobody acts after an episode's last step.
    act(now._replace(step_type=tf.constant([FIRST, MID, LAST])), policy_state)


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_joint_policy_takes_no_action_that_an_agent_does_not_have(epsilon):
    spec = EnvSpec("", 2, 3, 4, 5, 9, (3, 2))
    algorithm = make_algorithm(spec)
    algorithm.live.agent.networks[0].head_bias.assign([0.0, 0.0, 99.0])
    policy = JointPolicy(algorithm, epsilon)
    now = random_time_step(spec, np.random.default_rng(1), 64, [FIRST] * 64)
    observation = {**now.observation, "legal": tf.fill([64, 2, 3], True)}
    found = policy.action(now._replace(observation=observation), policy.get_initial_state(64))
    assert np.max(found.action[:, 0]) == 2 and np.max(found.action[:, 1]) <= 1


def test_only_the_greedy_policy_has_a_distribution():
    spec = EnvSpec("", 2, 3, 4, 5, 9, (3, 3))
    algorithm = make_algorithm(spec)
    policy = JointPolicy(algorithm)
    now = random_time_step(spec, np.random.default_rng(3), 2, [FIRST, FIRST])
    step = policy.distribution(now, policy.get_initial_state(2))
    chosen = policy.action(now, policy.get_initial_state(2))
    np.testing.assert_array_equal(step.action.sample(), chosen.action)
    np.testing.assert_array_equal(step.state, chosen.state)
    with pytest.raises(NotImplementedError, match="epsilon=0"):
        JointPolicy(algorithm, 0.1).distribution(now, policy.get_initial_state(2))
    with pytest.raises(TypeError, match="get_initial_state"):
        policy.action(now)


def test_joint_policy_holds_the_agents_network_and_no_mixer():
    algorithm = make_algorithm(EnvSpec("", 2, 3, 4, 5, 9, (3, 3)), "qmix")
    found = {v.ref() for v in JointPolicy(algorithm).variables() if v.dtype == tf.float32}
    assert found == {v.ref() for v in algorithm.live.agent.variables}


# Environments


def test_graph_environment_ends_and_restarts_each_row_by_itself():
    env = GraphTFEnvironment(Countdown(), batch_size=2, seed=4)
    action = tf.constant([[1, 0], [2, 1]])
    # A first step starts an episode and ignores its action, as TF-Agents has it.
    steps = [env.step(action)]
    assert steps[0].is_first().numpy().all() and not steps[0].reward.numpy().any()
    steps += [env.step(action) for _ in range(4)]
    steps = tf.nest.map_structure(lambda *x: np.stack(x, 1), *steps)
    np.testing.assert_array_equal(
        steps.step_type, [[FIRST, MID, MID, LAST, FIRST], [FIRST, MID, LAST, FIRST, MID]]
    )
    np.testing.assert_array_equal(steps.discount, [[1, 1, 1, 1, 1], [1, 1, 0, 1, 1]])
    np.testing.assert_array_equal(steps.reward, [[0, 1, 1, 1, 0], [0, 2, 2, 0, 2]])
    state = steps.observation["state"][..., 0]
    count = state - state[:, :1]
    np.testing.assert_allclose(count[0, :4], [0, 1, 2, 3], atol=1e-6)
    np.testing.assert_allclose(count[1, :3], [0, 1, 2], atol=1e-6)
    assert abs(state[0, 4] - state[0, 0]) > 1e-3  # an episode that was drawn anew
    now = env.current_time_step()
    np.testing.assert_array_equal(now.step_type, [FIRST, MID])
    np.testing.assert_array_equal(now.observation["state"][:, 0], state[:, 4])


def test_graph_environment_starts_an_episode_when_asked_what_it_shows():
    env = make_env("mpe/simple_spread")
    now, again = env.current_time_step(), env.current_time_step()
    assert now.is_first().numpy().all()
    np.testing.assert_array_equal(now.observation["obs"], again.observation["obs"])
    fresh = env.reset()
    assert fresh.is_first().numpy().all()
    assert not np.array_equal(now.observation["obs"], fresh.observation["obs"])


def test_graph_environment_is_decided_by_its_seed():
    one, same, other = (make_env("mpe/simple_spread", seed=seed) for seed in (0, 0, 1))
    first = one.reset().observation["obs"].numpy()
    np.testing.assert_array_equal(first, same.reset().observation["obs"])
    assert not np.array_equal(first, other.reset().observation["obs"])


def test_graph_environment_pays_what_the_two_step_game_pays():
    env = make_env("two_step")
    env.reset()
    steps = [env.step(tf.constant([[1, 0], [0, 0]])), env.step(tf.constant([[1, 1], [0, 1]]))]
    np.testing.assert_array_equal([s.reward for s in steps], [[0, 0], [8, 7]])
    np.testing.assert_array_equal([s.discount for s in steps], [[1, 1], [0, 0]])
    np.testing.assert_array_equal([s.step_type for s in steps], [[MID, MID], [LAST, LAST]])


def test_pettingzoo_environment_keeps_its_specs():
    env = TeamPyEnvironment(make_python(PETTINGZOO, Config(env_arg=("max_cycles=3",))))
    with env:
        environment_utils.validate_py_environment(env, episodes=2)


def test_pettingzoo_environment_serves_the_policy_through_tf_py_environment():
    team = make_python(PETTINGZOO, Config(env_arg=("max_cycles=3",)))
    env = tf_py_environment.TFPyEnvironment(TeamPyEnvironment(team, seed=5))
    policy = JointPolicy(make_algorithm(team.spec))
    rows = frames_of(step_driver.DynamicStepDriver, env, policy, num_steps=4)
    np.testing.assert_array_equal(rows.step_type, [[FIRST, MID, MID, LAST, FIRST]])
    np.testing.assert_array_equal(rows.discount, [[1, 1, 1, 1, 1]])  # cut, not terminated
    assert not np.array_equal(rows.observation["obs"][:, 0], rows.observation["obs"][:, 4])
    again = TeamPyEnvironment(team, seed=5).reset()
    np.testing.assert_array_equal(rows.observation["obs"][0, 0], again.observation["obs"])
    env.close()


# From drivers to updates


@pytest.mark.parametrize("name", ENVS)
@pytest.mark.parametrize("compiled", [False, True])
def test_drivers_step_graph_environments_in_order(name, compiled):
    env = make_env(name)
    length = env.spec.episode_limit + 1
    policy = JointPolicy(make_algorithm(env.spec), 0.5)
    replay = uniform_buffer.TFUniformReplayBuffer(policy.trajectory_spec, 2, 2 * length)
    driver = episode_driver.DynamicEpisodeDriver(
        env, policy, observers=[replay.add_batch], num_episodes=4
    )
    (tf.function(driver.run, autograph=False) if compiled else driver.run)()
    rows = replay.gather_all()
    once = [FIRST] + [MID] * (length - 2) + [LAST]
    np.testing.assert_array_equal(rows.step_type, [once * 2] * 2)
    np.testing.assert_array_equal(rows.next_step_type, [once[1:] + once + [FIRST]] * 2)
    if name == "two_step":  # the team goes where the first agent's first action leads
        place = np.argmax(rows.observation["state"], -1)
        np.testing.assert_array_equal(place[:, 1::3], 1 + rows.action.numpy()[:, ::3, 0])
        np.testing.assert_array_equal(place[:, ::3], 0)


@pytest.mark.parametrize("name, algo", [("two_step", "qmix"), ("mpe/simple_spread", "vdn")])
def test_agent_trains_like_the_learner_on_what_a_driver_collected(name, algo):
    env = make_env(name)
    length = env.spec.episode_limit + 1
    settings = {"standardise_rewards": True, "target_period_updates": 2}
    algorithm = make_algorithm(env.spec, algo, **settings)
    learner = Learner(algorithm)
    agent = ValueDecompositionAgent(algorithm, learner, epsilon=0.5)
    agent.initialize()
    replay = uniform_buffer.TFUniformReplayBuffer(agent.collect_data_spec, 2, 3 * length)
    observers = [replay.add_batch, agent.observe]
    # One step more than two episodes a row: a LAST frame comes with the step behind it.
    step_driver.DynamicStepDriver(
        env, agent.collect_policy, observers, num_steps=2 * 2 * (length - 1) + 1
    ).run()
    frames = replay.gather_all()
    batches = [
        tf.nest.map_structure(lambda x, i=i: x[:, i * length : (i + 1) * length], frames)
        for i in range(2)
    ]
    infos = [agent.train(rows) for rows in batches]
    variables = [*algorithm.live.variables, *algorithm.target.variables]
    trained = [v.numpy() for v in variables]

    algorithm.init_weights(tf.constant([3, 0]))
    learner.clear()
    agent.observe(frames)  # all that was collected, before the first update
    for i, (rows, info) in enumerate(zip(batches, infos, strict=True)):
        terminated = np.zeros([2, length - 1], np.float32)
        terminated[:, -1] = name == "two_step"
        episode = Episode(
            *(rows.observation[part] for part in ("obs", "state", "legal")),
            action=rows.action[:, :-1],
            reward=rows.reward[:, :-1],
            terminated=tf.constant(terminated),
            mask=tf.ones([2, length - 1]),
        )
        metrics, applied = learner.update(episode, tf.constant(i, tf.int64), tf.constant(5e-4))
        assert float(info.loss) == float(metrics["loss"]) > 0.0
        assert info.extra.metrics.keys() == metrics.keys() and info.extra.applied and applied
    for found, expected in zip(trained, variables, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert int(agent.train_step_counter) == int(agent.updates) == 2


@pytest.mark.parametrize("compiled", [False, True])
def test_agent_standardises_by_what_was_collected_and_not_by_what_is_sampled(compiled):
    env = GraphTFEnvironment(Countdown(), batch_size=2)
    algorithm = make_algorithm(Countdown.spec, standardise_rewards=True)
    agent = ValueDecompositionAgent(algorithm, epsilon=1.0)
    replay = uniform_buffer.TFUniformReplayBuffer(agent.collect_data_spec, 2, 40)
    observers = [replay.add_batch, agent.observe]
    driver = step_driver.DynamicStepDriver(env, agent.collect_policy, observers, num_steps=30)
    (tf.function(driver.run, autograph=False) if compiled else driver.run)()
    frames = replay.gather_all()
    paid = frames.reward.numpy()[frames.step_type.numpy() != LAST]
    scale = agent.learner.reward_scale
    assert int(scale.count) == len(paid) == 30 and paid.std() > 0.5
    row = tf.nest.map_structure(lambda x: x[:1, :4], frames)
    for _ in range(3):
        agent.train(row)
    assert int(scale.count) == 30
    np.testing.assert_allclose(scale.mean, paid.mean())
    np.testing.assert_allclose(scale.apply(paid), (paid - paid.mean()) / paid.std(), atol=1e-5)


def test_agent_that_was_shown_no_reward_does_not_learn_from_zeros():
    algorithm = make_algorithm(EnvSpec("", 2, 3, 1, 1, 4, (3, 3)), standardise_rewards=True)
    agent = ValueDecompositionAgent(algorithm)
    for train in (agent.train, tf.function(agent.train, autograph=False)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"add_batch, agent\.observe"):
            train(hand_made(*THREE))
    assert int(agent.updates) == 0


# Trajectory -> Episode


def hand_made(step_type, discount):
    """Two agents' frames whose numbers all tell their place; next_step_type follows."""
    step_type = np.asarray(step_type, np.int32)
    batch, frames = step_type.shape
    following = np.concatenate([step_type[:, 1:], np.full([batch, 1], FIRST)], 1)
    place = np.arange(batch * frames, dtype=np.float32).reshape(batch, frames)
    return tf.nest.map_structure(
        tf.constant,
        trajectories.Trajectory(
            step_type=step_type,
            observation={
                "obs": np.repeat(place[..., None, None], 2, 2),
                "legal": np.ones([batch, frames, 2, 3], bool),
                "state": -place[..., None],
            },
            action=np.repeat(place[..., None].astype(np.int32) % 3, 2, 2),
            policy_info=(),
            next_step_type=following.astype(np.int32),
            reward=10 * place,
            discount=np.asarray(discount, np.float32),
        ),
    )


# Over after 2 of 4 steps with another episode behind; cut at 4 of 4; over at 4 of 4, where
# a discount of 0 on the way is not an end.
THREE = (
    [[FIRST, MID, LAST, FIRST, LAST], [FIRST, MID, MID, MID, LAST], [FIRST, MID, MID, MID, LAST]],
    [[1, 0, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 1, 0, 1]],
)


def test_trajectory_becomes_episode():
    episode = episodes_from_trajectory(hand_made(*THREE))
    np.testing.assert_array_equal(episode.mask, [[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]])
    np.testing.assert_array_equal(episode.terminated, [[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
    place = np.arange(15).reshape(3, 5)
    np.testing.assert_array_equal(episode.obs[..., 0, 0], place)
    np.testing.assert_array_equal(episode.state[..., 0], -place)
    np.testing.assert_array_equal(episode.reward, 10 * place[:, :4])
    np.testing.assert_array_equal(episode.action[..., 1], place[:, :4] % 3)
    assert episode.legal.shape == [3, 5, 2, 3]


def test_a_time_limit_is_terminal_where_the_settings_say_so():
    cut = episodes_from_trajectory(hand_made(*THREE), cut_is_terminal=True)
    np.testing.assert_array_equal(cut.terminated, [[0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    "step_type",
    [
        [MID, LAST, FIRST, MID, LAST],  # begins in the middle
        [FIRST, MID, FIRST, MID, LAST],  # the end of the first episode is missing
    ],
)
def test_rows_that_are_no_whole_episode_are_refused(step_type):
    with pytest.raises(tf.errors.InvalidArgumentError, match="whole episode"):
        episodes_from_trajectory(hand_made([step_type], [[1] * 5]))


def test_a_compiled_training_does_not_learn_from_rows_that_are_no_whole_episode():
    algorithm = make_algorithm(EnvSpec("", 2, 3, 1, 1, 4, (3, 3)))
    agent = ValueDecompositionAgent(algorithm)
    before = [w.numpy() for w in algorithm.live.variables]
    rows = hand_made([[MID, MID, MID, MID, LAST]], [[1] * 5])
    with pytest.raises(tf.errors.InvalidArgumentError, match="whole episode"):
        tf.function(agent.train, autograph=False)(rows)
    assert int(agent.updates) == 0
    for found, wanted in zip(algorithm.live.variables, before, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_what_lies_behind_an_end_does_not_reach_the_update():
    rows = hand_made(*THREE)
    behind = np.asarray([[0, 0, 0, 1, 1]] + [[0] * 5] * 2, bool)
    spoiled = rows._replace(
        reward=tf.where(behind, np.nan, rows.reward),
        observation={
            **rows.observation,
            "obs": tf.where(behind[..., None, None], np.nan, rows.observation["obs"]),
        },
    )
    algorithm = make_algorithm(EnvSpec("", 2, 3, 1, 1, 4, (3, 3)))
    agent = ValueDecompositionAgent(algorithm, learning_rate=0.0)
    losses = [float(agent.train(x).loss) for x in (rows, spoiled)]
    assert losses[0] == losses[1] and np.isfinite(losses[0])


def test_agent_takes_whole_rows_and_no_weights():
    agent = ValueDecompositionAgent(make_algorithm(EnvSpec("", 2, 3, 1, 1, 4, (3, 3))))
    rows = hand_made(*THREE)
    with pytest.raises(ValueError, match=r"rows of 5 frames .* have 4"):
        agent.train(tf.nest.map_structure(lambda x: x[:, :4], rows))
    with pytest.raises(ValueError, match="weights"):
        agent.train(rows, weights=tf.ones([3]))


def test_initialize_makes_the_targets_equal_the_live_networks():
    agent = ValueDecompositionAgent(make_algorithm(EnvSpec("", 2, 3, 1, 1, 4, (3, 3)), "qmix"))
    for weight in agent.algorithm.live.variables:
        weight.assign_add(tf.ones_like(weight))
    agent.initialize()
    pairs = zip(agent.algorithm.live.variables, agent.algorithm.target.variables, strict=True)
    for live, target in pairs:
        np.testing.assert_array_equal(live, target)


# The replay buffer


def episodes_of(frames):
    """Cuts whole episodes out of a row of frames, [frames, ...]: first frame to last."""
    starts = np.flatnonzero(np.asarray(frames.step_type) == FIRST)
    ends = np.flatnonzero(np.asarray(frames.step_type) == LAST)
    return [
        tf.nest.map_structure(lambda x, a=start, b=end: x[a : b + 1].numpy(), frames)
        for start, end in zip(starts, ends, strict=False)
    ]


def assert_holds(item, episode):
    """An item of the replay begins with the frames of `episode`; the rest is boundary."""
    length = len(episode.step_type)

    def check(found, given):
        np.testing.assert_array_equal(found[:length], given)

    seen = ("obs", "legal", "state")
    check(item.step_type, episode.step_type)
    for part in seen:
        check(item.observation[part], episode.observation[part])
    for part in ("action", "reward", "discount"):  # those of the last frame lead to another episode
        np.testing.assert_array_equal(
            getattr(item, part)[: length - 1], getattr(episode, part)[: length - 1]
        )
    check(item.next_step_type, episode.next_step_type)
    assert (item.step_type[length:].numpy() == LAST).all()
    assert (item.next_step_type[length:].numpy() == FIRST).all()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("kind", ["episodes", "steps"])
def test_a_driver_fills_the_replay_with_whole_episodes(compiled, kind):
    env = GraphTFEnvironment(Countdown(), batch_size=2, seed=4)
    policy = JointPolicy(make_algorithm(Countdown.spec), 1.0)
    replay = EpisodeReplayBuffer(Countdown.spec, 2, capacity_episodes=9)
    assert replay.data_spec == policy.trajectory_spec and replay.capacity == 9
    frames = uniform_buffer.TFUniformReplayBuffer(policy.trajectory_spec, 2, 100)
    observers = [replay.add_batch, frames.add_batch]
    driver = (
        episode_driver.DynamicEpisodeDriver(env, policy, observers, num_episodes=6)
        if kind == "episodes"
        else step_driver.DynamicStepDriver(env, policy, observers, num_steps=16)
    )
    (tf.function(driver.run, autograph=False) if compiled else driver.run)()
    added = frames.gather_all()
    rows = [episodes_of(tf.nest.map_structure(lambda x, i=i: x[i], added)) for i in range(2)]
    assert [len(row) for row in rows] == [2, 3] if kind == "steps" else len(rows[1]) >= 3
    # The frame in which an episode is complete orders them, and the row at the same frame.
    ends = sorted((4 * n if i == 0 else 3 * n, i, n) for i in (0, 1) for n in range(1, 5))
    expected = [rows[i][n - 1] for _, i, n in ends if n <= len(rows[i])]
    items = replay.gather_all()
    assert int(replay.num_episodes()) == len(expected) == len(items.reward)
    assert int(replay.num_frames()) == sum(len(e.step_type) for e in expected)
    for number, episode in enumerate(expected):
        assert_holds(tf.nest.map_structure(lambda x, i=number: x[i], items), episode)


def test_the_agent_learns_from_the_replays_dataset_what_the_learner_does():
    env = GraphTFEnvironment(Countdown(), batch_size=2)
    algorithm = make_algorithm(Countdown.spec)
    agent = ValueDecompositionAgent(algorithm, epsilon=1.0)
    replay = EpisodeReplayBuffer(Countdown.spec, 2, capacity_episodes=8)
    step_driver.DynamicStepDriver(env, agent.collect_policy, [replay.add_batch], num_steps=40).run()
    batches = replay.as_dataset(sample_batch_size=5, num_steps=agent.train_sequence_length)
    items, info = next(iter(batches))
    assert items.reward.shape == [5, 4]
    np.testing.assert_allclose(info.probabilities, 1 / 8)
    before = [v.numpy() for v in algorithm.live.variables]
    loss = float(agent.train(items).loss)
    trained = [v.numpy() for v in algorithm.live.variables]
    assert any((a != b).any() for a, b in zip(before, trained, strict=True))

    # An id numbers the episodes that were completed; the replay holds the last 8.
    episode = replay.replay.read(info.ids % 8)
    for found, wanted in zip(episodes_from_trajectory(items), episode, strict=True):
        np.testing.assert_array_equal(found, wanted)
    algorithm.init_weights(tf.constant([3, 0]))
    agent.learner.clear()
    metrics, _ = agent.learner.update(episode, tf.constant(0, tf.int64), tf.constant(5e-4))
    assert float(metrics["loss"]) == loss > 0
    for found, wanted in zip(trained, algorithm.live.variables, strict=True):
        np.testing.assert_array_equal(found, wanted)


def frame_of(step_type, following, number=0.0):
    """One frame of each of a batch of `Countdown`, all of whose numbers are `number`."""
    batch = len(step_type)
    return trajectories.Trajectory(
        step_type=np.asarray(step_type, np.int32),
        observation={
            "obs": np.full([batch, 2, 1], number, np.float32),
            "legal": np.ones([batch, 2, 3], bool),
            "state": np.full([batch, 1], number, np.float32),
        },
        action=np.zeros([batch, 2], np.int32),
        policy_info=(),
        next_step_type=np.asarray(following, np.int32),
        reward=np.full([batch], number, np.float32),
        discount=np.ones([batch], np.float32),
    )


def filled(count, capacity=8, seed=0):
    """A replay of one environment with `count` episodes of one step; their number is the reward."""
    replay = EpisodeReplayBuffer(Countdown.spec, 1, capacity, seed=seed)
    for number in range(count):
        replay.add_batch(frame_of([FIRST], [LAST], number))
        assert int(replay.add_batch(frame_of([LAST], [FIRST]))) == min(number + 1, capacity)
    return replay


def test_the_replay_draws_uniformly_by_its_seed_and_passes_once_over_all():
    replay, same, other = filled(11), filled(11), filled(11, seed=1)
    item, info = replay.get_next()
    assert item.reward.shape == [4] and float(item.reward[0]) == int(info.ids)
    items, info = replay.get_next(2000)
    numbers, counts = np.unique(items.reward[:, 0], return_counts=True)
    np.testing.assert_array_equal(numbers, np.arange(3, 11))
    np.testing.assert_allclose(counts / 2000, 1 / 8, atol=0.04)
    np.testing.assert_array_equal(info.ids, items.reward[:, 0])
    same.get_next()
    np.testing.assert_array_equal(same.get_next(2000)[1].ids, info.ids)
    other.get_next()
    assert not np.array_equal(other.get_next(2000)[1].ids, info.ids)
    drawn = [info.ids.numpy() for _, info in replay.as_dataset(4, 4, 2).take(3)]
    assert not np.array_equal(drawn[0], drawn[1])
    once = replay.as_dataset(sample_batch_size=3, single_deterministic_pass=True)
    for _ in range(2):
        ids = [info.ids.numpy().tolist() for _, info in once]
        assert ids == [[3, 4, 5], [6, 7, 8], [9, 10]]
    singly = [
        float(item.reward[0]) for item, _ in replay.as_dataset(single_deterministic_pass=True)
    ]
    assert singly == list(range(3, 11))
    np.testing.assert_array_equal(replay.gather_all().reward[:, 0], np.arange(3, 11))
    assert replay.num_frames() == 16


def test_the_replay_gives_whole_episodes_alone_and_none_before_it_holds_one():
    replay = filled(0)
    assert replay.num_frames() == 0 and replay.gather_all().reward.shape == [0, 4]
    for draw in (
        replay.get_next,
        lambda: next(iter(replay.as_dataset(2))),
        lambda: next(iter(replay.as_dataset(single_deterministic_pass=True))),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match="holds no whole episode"):
            draw()
    with pytest.raises(NotImplementedError, match=r"None or 4 \(T\+1\), not 2"):
        replay.as_dataset(2, num_steps=2)
    with pytest.raises(NotImplementedError, match="time_stacked"):
        replay.get_next(2, num_steps=4, time_stacked=False)
    with pytest.raises(NotImplementedError, match="sequence_preprocess_fn"):
        replay.as_dataset(2, sequence_preprocess_fn=lambda x: x)


def test_frames_that_are_no_whole_episode_are_dropped_or_refused():
    replay = EpisodeReplayBuffer(Countdown.spec, 2, 8)
    replay.add_batch(frame_of([MID, FIRST], [LAST, MID]))  # the first row began before
    replay.add_batch(frame_of([LAST, FIRST], [FIRST, LAST], 7))  # the second begins anew
    replay.add_batch(frame_of([FIRST, LAST], [MID, FIRST], 8))
    items = replay.gather_all()
    np.testing.assert_array_equal(items.step_type, [[FIRST, LAST, LAST, LAST]])
    np.testing.assert_array_equal(items.observation["state"][0, :, 0], [7, 8, 0, 0])
    np.testing.assert_array_equal(items.reward, [[7, 0, 0, 0]])
    np.testing.assert_array_equal(items.discount, np.ones([1, 4]))
    replay.clear()
    assert replay.num_frames() == 0
    for row in (1, 2):  # the first row's episode began before the clearing
        replay.add_batch(frame_of([LAST, FIRST], [FIRST, LAST]))
        replay.add_batch(frame_of([FIRST, LAST], [LAST, FIRST]))
        assert replay.num_episodes() == 2 * row - 1
    for step_type in (FIRST, MID, MID):
        replay.add_batch(frame_of([step_type, MID], [MID, MID]))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"(?s)more steps than .*0"):
        replay.add_batch(frame_of([MID, MID], [LAST, MID]))


def test_the_replay_refuses_frames_of_another_task_and_numbers_that_are_not_finite():
    replay = EpisodeReplayBuffer(Countdown.spec, 2, 8, "float16")
    with pytest.raises(ValueError, match=r"step_type of shape \[2\]; it has \[3\]"):
        replay.add_batch(frame_of([FIRST] * 3, [MID] * 3))
    with pytest.raises((ValueError, TypeError), match="structure"):
        replay.add_batch(frame_of([FIRST] * 2, [MID] * 2)._replace(policy_info=tf.zeros([2])))
    for number in (np.nan, 7e4):
        replay.add_batch(frame_of([FIRST] * 2, [LAST] * 2, number))
        with pytest.raises(tf.errors.InvalidArgumentError, match="NaN, infinity or a number"):
            replay.add_batch(frame_of([LAST] * 2, [FIRST] * 2))
    assert replay.num_frames() == 0


def test_a_checkpoint_of_the_replay_buffer_keeps_episodes_frames_and_draws(tmp_path):
    replay, fresh = filled(5), filled(0)
    replay.add_batch(frame_of([FIRST], [LAST], 5))
    replay.get_next()
    path = tf.train.Checkpoint(replay=replay).write(str(tmp_path / "replay"))
    tf.train.Checkpoint(replay=fresh).read(path).assert_consumed()
    for one in (replay, fresh):
        one.add_batch(frame_of([LAST], [FIRST]))
    for found, wanted in zip(
        tf.nest.flatten(fresh.get_next(4)), tf.nest.flatten(replay.get_next(4)), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(fresh.gather_all().reward[:, 0], np.arange(6))
