"""The inspector's numbers are those computed by hand, and it leaves no trace in training."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.plugins.custom_scalar import layout_pb2

import tfmix
from tests.training.test_training import Threes
from tfmix import algos
from tfmix.algos.joint_actions import greedy_is_best, single_deviations
from tfmix.config.schema import Config
from tfmix.envs.graph.matrix import MatrixGame, TwoStep
from tfmix.training.inspection import (
    TAGS,
    Inspection,
    add_batch,
    add_greedy,
    returns_to_come,
    scalar_tags,
)
from tfmix.training.inspector import Inspector, episodes_of
from tfmix.training.learner import Learner
from tfmix.training.replay import EpisodeReplay
from tfmix.types import EnvSpec, Episode
from tfmix.watch import pictures

pytestmark = pytest.mark.whole_run

ROOT = Path(__file__).resolve().parents[2]
PAYOFF = np.asarray([[8, -12, -12], [-12, 0, 0], [-12, 0, 0]], np.float32)
ALL = np.asarray([(a, b) for a in range(3) for b in range(3)], np.int32)
SMALL = {"hidden_size": 8, "mixer_embed": 1, "hypernet_embed": 4, "central_embed": 4}
SMALL |= {"qtran_embed": 4, "duplex_kernels": 2, "duplex_layers": 2, "attention_heads": 2}
MIXERS = ("vdn", "qmix", "qatten", "qplex", "cw_qmix", "ow_qmix")


def game_of(algo, utilities, **settings):
    """The game 8/-12/0 and an algorithm whose agents have these utilities at every step."""
    env = MatrixGame(PAYOFF, "matrix/qtran")
    config = Config(
        algo=algo, env="matrix/qtran", share_parameters=False, recurrent=False, gamma=0.5,
        qtran_state_value="zero", **SMALL, **settings,
    )  # fmt: skip
    algorithm = algos.make(algo, env.spec, config)
    for variable in (*algorithm.live.variables, *algorithm.target.variables):
        variable.assign(tf.zeros_like(variable))
    for network, own in zip(algorithm.live.agent.networks, utilities, strict=True):
        network.head_bias.assign(np.asarray(own, np.float32))
    return algorithm, env


def every_action(reward=PAYOFF):
    """An episode of one step for each joint action, with its payoff."""
    ones = np.ones([9, 1], np.float32)
    return Episode(
        obs=tf.ones([9, 2, 2, 1]),
        state=tf.ones([9, 2, 1]),
        legal=tf.ones([9, 2, 2, 3], tf.bool),
        action=tf.constant(ALL[:, None]),
        reward=tf.constant(reward.reshape(9, 1)),
        terminated=tf.constant(ones),
        mask=tf.constant(ones),
    )


def inspector_of(algorithm, replay=None):
    """An inspector whose programs are not traced, which takes longer than to run them once."""
    replay = replay or EpisodeReplay(algorithm.spec, 9, 9)
    inspector = Inspector(algorithm, Learner(algorithm).prepared, replay, tf.Variable(0))
    inspector.of_greedy, inspector.of_batch = inspector._of_greedy, inspector._of_batch
    return inspector


def scalars_of(algorithm, greedy=(0, 0)):
    """What the inspector finds in the greedy joint action and in all nine as a batch."""
    inspector, found = inspector_of(algorithm), Inspection()
    row = int(np.flatnonzero((greedy == ALL).all(-1))[0])
    episode = Episode(*(x[row : row + 1] for x in every_action()))
    numbers = {name: x.numpy() for name, x in inspector.of_greedy(episode).items()}
    add_greedy(found, algorithm, numbers)
    numbers, own, _ = inspector.of_batch(every_action())
    assert set(own) == set(algorithm.inspected)
    numbers, own = ({name: x.numpy() for name, x in part.items()} for part in (numbers, own))
    add_batch(found, algorithm, numbers, own)
    return {tag: value for tag, (value, _) in found.scalars.items()}, found


class Table:
    """Stands for a joint network: its values are a table's, whatever the team sees."""

    def __init__(self, table, counterfactual=False):
        self.table, self.counterfactual = tf.constant(table), counterfactual

    def __call__(self, state, hidden, action):
        if not self.counterfactual:
            return tf.gather_nd(self.table, action)
        of_a = tf.gather(tf.transpose(self.table), action[..., 1])  # [B, T, A]
        return tf.stack([of_a, tf.gather(self.table, action[..., 0])], 2)


def with_table(algorithm, table=PAYOFF):
    for networks in (algorithm.live, algorithm.target):
        networks.joint = Table(table, algorithm.critic == "counterfactual")
    return algorithm


@pytest.mark.parametrize("algo", algos.REGISTRY)
def test_numbers_of_agents_are_those_of_their_utilities(algo):
    algorithm, _ = game_of(algo, [[4, 1, 1], [2, 0, -2]])
    found, _ = scalars_of(algorithm)
    assert found["team_greedy/utility/0"] == pytest.approx(4)
    assert found["team_greedy/utility/1"] == pytest.approx(2)
    assert found["team_greedy/advantage/0"] == pytest.approx(4 - 2)
    assert found["team_greedy/advantage/1"] == pytest.approx(2 - 0)
    # In the batch each action is as frequent as the others.
    assert found["team_replay/chosen/0"] == pytest.approx(2)
    assert found["team_replay/greatest/0"] == pytest.approx(4)
    assert found["team_replay/advantage/0"] == pytest.approx(0, abs=1e-5)
    assert [found[f"team_actions/{i}/{a}"] for i in (0, 1) for a in range(3)] == [1, 0, 0, 1, 0, 0]
    assert found["team/return"] == 8.0


@pytest.mark.parametrize("algo", ["qtran_base", "qtran_alt"])
@pytest.mark.parametrize(
    "utilities,of_4a,of_4b,of_7",
    [
        # Q' is 8 at (0, 0) and 4 or 0 elsewhere: all conditions hold, (7) with equality at the
        # other agent's best action, or at an own action 1 or 2.
        ([[4, 0, 0], [4, 0, 0]], 1, 1, 1),
        # Q' is 6 at (0, 0), 2 below Q_jt: agent A breaks (7) if B plays 0, and B if A does.
        ([[3, 0, 0], [3, 0, 0]], 0, 8 / 9, 12 / 18),
        # Q' is 8.05 there, within 0.1.
        ([[4.05, 0, 0], [4, 0, 0]], 1, 1, 1),
        # Q' lies 1 above Q_jt at 1 and 2 of both, and 9 at (0, 0).
        ([[4.5, 0.5, 0.5], [4.5, 0.5, 0.5]], 0, 1, 0),
    ],
)
def test_qtran_conditions_are_those_counted_by_hand(algo, utilities, of_4a, of_4b, of_7):
    algorithm = with_table(game_of(algo, utilities)[0])
    found, _ = scalars_of(algorithm)
    assert found["qtran/holds_4a"] == pytest.approx(of_4a)
    assert found["qtran/holds_4b"] == pytest.approx(of_4b)
    if algo == "qtran_alt":
        assert found["qtran/holds_7"] == pytest.approx(of_7)
    else:
        assert "qtran/holds_7" not in found
    assert found["qtran/loss_td"] == pytest.approx(0, abs=1e-6)
    assert found["td_error/mean_size"] == pytest.approx(0, abs=1e-5)
    assert found["team/igm/q_jt"] == 1
    assert found["team/value"] == pytest.approx(8) and "team_greedy/slope/0" not in found


@pytest.mark.parametrize("algo", ["qtran_base", "qtran_alt"])
def test_agreement_is_the_share_of_steps_at_which_the_greedy_joint_action_is_best(algo):
    algorithm = with_table(game_of(algo, [[0, 1, 2], [0, 1, 2]])[0])  # greedy is (2, 2)
    found, _ = scalars_of(algorithm, greedy=(2, 2))
    assert found["team/igm/q_jt"] == 0
    views = algorithm.views(every_action())
    row = type(views)(*(x[:4, 0][None] for x in views))
    assert (
        greedy_is_best(algorithm, row, enumerate_all=True)["Q_jt"].numpy().tolist() == [False] * 4
    )
    # No agent alone finds a better action: (0, 2) and (2, 0) pay -12, the others 0.
    alone = greedy_is_best(algorithm, row, enumerate_all=False)
    assert alone["Q_jt"].numpy().tolist() == [True] * 4
    # Where B's action 0 is illegal, the 8 is out of reach.
    legal = row.legal.numpy()
    legal[0, 1:3, 1, 0] = False
    legal = greedy_is_best(algorithm, row._replace(legal=tf.constant(legal)), True)
    assert legal["Q_jt"].numpy().tolist() == [False, True, True, False]


def test_single_deviations_change_one_agent():
    greedy = tf.constant([[1, 2], [0, 0]])
    found = single_deviations(greedy, (2, 3)).numpy()
    assert found[:, 0].tolist() == [[0, 2], [1, 2], [1, 0], [1, 1], [1, 2]]
    assert found[:, 1].tolist() == [[0, 0], [1, 0], [0, 0], [0, 1], [0, 2]]


def last_bias(mlp, values):
    mlp.linears[-1].bias.assign(np.asarray(values, np.float32).ravel())


@pytest.mark.parametrize("algo", MIXERS)
def test_slopes_and_agreement_of_mixers_are_those_of_their_weights(algo):
    algorithm, _ = game_of(algo, [[2, 0, 0], [1, 0, 0]], hypernet_layers=2)
    mixer, slopes = algorithm.live.mixer, [1.0, 1.0]
    if algo in ("qmix", "cw_qmix", "ow_qmix"):
        # Q_tot = ELU(2 q_A + 3 q_B) * 0.5 + 1
        last_bias(mixer.hyper_w1, [2, -3])
        last_bias(mixer.hyper_wf, [-0.5])
        last_bias(mixer.state_value, [1])
        slopes, value = [1.0, 1.5], 0.5 * 7 + 1
    elif algo == "qatten":
        # Both heads attend to both agents alike: Q_tot = (3 + 1) * (q_A + q_B) / 2
        last_bias(mixer.head_weight, [3, -1])
        slopes, value = [2.0, 2.0], 6
    elif algo == "qplex":
        # Q'_A = 2 q_A, Q'_B = 3 q_B + 1; lambda = 2 * sigmoid(0)^2 + 4 * sigmoid(0)^2
        last_bias(mixer.scale, [2, -3])
        last_bias(mixer.shift, [0, 1])
        for key, size in zip(mixer.keys, (2, -4), strict=True):
            last_bias(key, [size])
        slopes, value = [2.0, 3.0], 2 * 2 + 3 * 1 + 1
    else:
        value = 3
    found, whole = scalars_of(algorithm)
    for i in (0, 1):
        assert found[f"team_greedy/slope/{i}"] == pytest.approx(slopes[i], rel=1e-5)
        assert found[f"team_greedy/slope_least/{i}"] == pytest.approx(slopes[i], rel=1e-5)
    assert found["team/value"] == pytest.approx(value)
    assert found["team/overestimation"] == pytest.approx(value - 8)
    assert found["team/igm/q_tot"] == 1
    if algo == "qatten":
        assert [found[f"qatten/head_weight/{h}"] for h in (0, 1)] == pytest.approx([3, 1])
        table, about = whole.tables["qatten/attention"]
        np.testing.assert_allclose(table, 0.5 * np.ones([2, 2]))
        assert about.axes == ("head", "agent")
    if algo == "qplex":
        for name in ("lambda", "lambda_least", "lambda_greatest"):
            assert [found[f"qplex/{name}/{i}"] for i in (0, 1)] == pytest.approx([1.5, 1.5])


@pytest.mark.parametrize("algo,share", [("cw_qmix", 2 / 9), ("ow_qmix", 4 / 9)])
def test_wqmix_share_of_weights_and_agreement_of_the_central_value(algo, share):
    # Q_tot is 1 everywhere. OW-QMIX counts what pays more: the 8 and three times 3. CW-QMIX counts
    # the greedy joint action, (0, 0), and what pays more than Q*', which is 0: the 8 and one 3.
    algorithm, _ = game_of(algo, [[2, 0, 0], [1, 0, 0]])
    last_bias(algorithm.live.mixer.state_value, [1])
    payoff = PAYOFF.copy()
    payoff[2] = 3 if algo == "ow_qmix" else (-1, -1, 3)
    batch = every_action(payoff)
    _, own, _ = inspector_of(algorithm).of_batch(batch)
    assert float(own["wqmix/weight_is_1"]) == pytest.approx(share)
    # Q* is the product of the central values: greedy (0, 0) has 1 * 1, (1, 1) has 2 * 2.
    for network in algorithm.live.central_agent.networks:
        network.head_bias.assign([1.0, 2.0, 0.0])
    algorithm.live.central_mixer = lambda q, state: q[..., 0] * q[..., 1]
    found, _ = scalars_of(algorithm)
    assert (found["team/igm/q_tot"], found["team/igm/q_star"]) == (1, 0)
    for network in algorithm.live.central_agent.networks:
        network.head_bias.assign([2.0, 1.0, 0.0])
    assert scalars_of(algorithm)[0]["team/igm/q_star"] == 1


def test_independent_learners_have_no_joint_value():
    algorithm, _ = game_of("iql", [[2, 0, 0], [4, 0, 0]])
    found, _ = scalars_of(algorithm)
    assert not [tag for tag in found if tag.startswith(("team/igm/", "team_greedy/slope"))]
    assert found["team/value"] == pytest.approx(3)  # the mean of 2 and 4
    chosen = np.asarray([[2, 0, 0], [4, 0, 0]])[np.arange(2), ALL]  # [9, 2]
    errors = chosen - PAYOFF.reshape(9, 1)
    for share in (5, 25, 50, 75, 95):
        wanted = np.quantile(errors, share / 100)
        assert found[f"td_error/quantile/{share:02d}"] == pytest.approx(wanted, abs=1e-5)
    assert found["td_error/mean_size"] == pytest.approx(np.abs(errors).mean())


def test_returns_to_come_bootstrap_from_an_end_by_time_limit_alone():
    reward = np.asarray([[1.0, 2.0, 4.0], [1.0, 2.0, 0.0], [8.0, 0.0, 0.0]])
    mask = np.asarray([[1, 1, 1], [1, 1, 0], [1, 0, 0]], bool)
    terminated = np.asarray([[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    value = np.full([3, 4], 16.0)
    found = returns_to_come(reward, terminated, mask, value, 0.5)
    assert found[0].tolist() == [1 + 1 + 1 + 2, 2 + 2 + 4, 4 + 8]
    assert found[1].tolist() == [1 + 1, 2, 0]
    assert found[2].tolist() == [8 + 8, 0, 0]


def test_few_episodes_of_a_large_task_are_looked_at():
    large = EnvSpec("large", 20, 5, 3, 3, episode_limit=199, agent_n_actions=(5,) * 20)
    assert episodes_of(large, 100) == 5
    huge = EnvSpec("huge", 200, 5, 3, 3, episode_limit=999, agent_n_actions=(5,) * 200)
    assert episodes_of(huge, 100) == 1
    small = MatrixGame(PAYOFF, "x").spec
    assert (episodes_of(small, 100), episodes_of(small, 8)) == (32, 8)


@pytest.mark.parametrize("algo", ["qmix", "qtran_base"])
def test_large_teams_have_few_tags_and_few_valued_joint_actions(algo):
    spec = EnvSpec("large", 20, 40, 3, 3, episode_limit=2, agent_n_actions=(40,) * 20)
    algorithm = algos.make(algo, spec, Config(algo=algo, **SMALL))
    replay = EpisodeReplay(spec, 1, 1)
    episode = Episode(
        tf.zeros([1, 3, 20, 3]), tf.zeros([1, 3, 3]), tf.ones([1, 3, 20, 40], tf.bool),
        tf.zeros([1, 2, 20], tf.int32), *(tf.ones([1, 2]) for _ in range(3)),
    )  # fmt: skip
    inspector = inspector_of(algorithm, replay)
    found = inspector.inspect(episode, 0)  # the replay is empty
    assert not [tag for tag in found.scalars if tag.startswith("team_replay")]
    assert len([tag for tag in found.scalars if tag.startswith("team_actions/")]) == 16 * 32
    assert set(found.histograms) == {f"weights/{name}" for name in inspector.networks}


# Training.

TINY = {"n_envs": 2, "batch_episodes": 4, "buffer_episodes": 20, "eval_episodes": 3}
TINY |= {"hidden_size": 8, "log_period_env_steps": 20, "eval_period_env_steps": 40}
TINY |= {"learning_rate_decay": "none"}


def rows_of(folder):
    with (folder / "metrics.csv").open() as file:
        return [{n: x for n, x in row.items() if n != "seconds"} for row in csv.DictReader(file)]


def events_of(folder):
    """The last value of each tag and step, what it is, and the number of events."""
    found, texts, count = {}, {}, 0
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                count += 1
                kind = value.metadata.plugin_data.plugin_name
                content = tf.make_ndarray(value.tensor)
                text = value.metadata.summary_description or texts.get(value.tag, "")
                texts[value.tag] = text
                found[value.tag, event.step] = kind, content, text
    return found, count


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with the inspector and one without."""
    folder = tmp_path_factory.mktemp("inspected")
    runs = {
        name: tfmix.train(
            "two_step", "qmix", run_dir=folder / name, env_steps=120, inspect=name == "on", **TINY
        )
        for name in ("on", "off")
    }
    return folder, runs


def test_training_is_the_same_to_the_bit_with_and_without_the_inspector(trained):
    folder, runs = trained
    assert rows_of(folder / "on") == rows_of(folder / "off")
    parts = [
        (*run.algorithm.live.variables, *run.trainer.learner.optimizer.variables)
        for run in runs.values()
    ]
    for one, other in zip(*parts, strict=True):
        np.testing.assert_array_equal(one, other)
    with_it, without = (events_of(folder / name)[0] for name in ("on", "off"))
    assert {tag for tag, _ in without} < {tag for tag, _ in with_it}
    assert not [tag for tag, _ in without if tag.startswith(("team/", "weights/", "game/"))]


def test_programs_are_traced_once(trained):
    inspector = trained[1]["on"].trainer.inspector
    for program in (inspector.of_greedy, inspector.of_batch):
        assert program.experimental_get_tracing_count() == 1
    idle = trained[1]["off"].trainer.inspector
    assert idle.of_greedy.experimental_get_tracing_count() == 0


def test_events_of_an_evaluation_have_descriptions_kinds_and_documentation(trained):
    found, _ = events_of(trained[0] / "on")
    kinds = {tag: kind for (tag, _), (kind, _, _) in found.items()}
    assert kinds["team/value"] == "scalars" and kinds["game/values_2B"] == "images"
    for network in ("agent", "mixer"):
        assert kinds[f"weights/{network}"] == kinds[f"gradients/{network}"] == "histograms"
    steps = {step for tag, step in found if tag == "team/value"}
    assert steps == {40, 80, 120}
    about = {tag: text for (tag, _), (_, _, text) in found.items()}
    own = [tag for tag in about if tag.split("/")[0] in {name.split("/")[0] for name in TAGS}]
    assert len(own) > 20 and all(about[tag] for tag in own)


def test_resumed_run_has_the_events_of_a_run_that_was_not_stopped(trained, tmp_path):
    tfmix.train("two_step", "qmix", run_dir=tmp_path / "x", env_steps=60, **TINY)
    tfmix.resume(tmp_path / "x", env_steps=120)
    assert rows_of(tmp_path / "x")[-1] == rows_of(trained[0] / "on")[-1]
    found, wanted = events_of(tmp_path / "x")[0], events_of(trained[0] / "on")[0]
    for key, (kind, content, _) in wanted.items():
        if kind != "scalars" or key[0] in ("run/seconds", "run/env_steps_per_second"):
            continue
        np.testing.assert_array_equal(found[key][1], content, str(key))


def test_an_environment_in_python_is_inspected_over_several_groups_of_episodes(tmp_path):
    """Three greedy episodes are played by two environments: two, then one."""
    run = tfmix.train(
        Threes, "iql", run_dir=tmp_path / "x", env_steps=60, env_workers=0,
        **{**TINY, "learning_rate_decay": "none"},
    )  # fmt: skip
    found, _ = events_of(tmp_path / "x")
    values = {tag for tag, step in found if step == run.env_steps}
    assert {"team/value", "team_replay/chosen/0", "weights/agent", "gradients/agent"} <= values
    assert float(found["team/return", run.env_steps][1]) > 0
    inspector = run.trainer.inspector
    for program in (inspector.of_greedy, inspector.of_batch):
        assert program.experimental_get_tracing_count() == 1


def test_the_layout_has_a_chart_for_every_scalar_of_the_inspector(trained):
    found, _ = events_of(trained[0] / "on")
    content = found["custom_scalars__config__", 0][1].item()
    charts = [c for part in layout_pb2.Layout.FromString(content).category for c in part.chart]
    patterns = [x for chart in charts for x in chart.multiline.tag]
    patterns += [x for c in charts for s in c.margin.series for x in (s.value, s.lower, s.upper)]
    tags = {tag for (tag, _), (kind, _, _) in found.items() if kind == "scalars"}
    assert not [tag for tag in tags if not any(re.match(p, tag) for p in patterns)]
    assert not [p for p in patterns if not any(re.match(p, tag) for tag in tags)]


@pytest.mark.parametrize("algo", algos.REGISTRY)
def test_tags_of_the_layout_are_those_that_are_written(algo):
    algorithm, _ = game_of(algo, [[4, 1, 1], [2, 0, -2]])
    found, _ = scalars_of(algorithm)
    first = {tag for tag in found if not re.search(r"/[1-9]$", tag)}
    assert {tag for tag in scalar_tags(algorithm) if tag != "team_actions/0/0"} == first - {
        *(f"team_actions/{i}/{a}" for i in (0, 1) for a in range(3))
    }


def test_every_tag_is_documented():
    text = (ROOT / "docs" / "inspect.md").read_text()
    tags = set(TAGS)
    for name in algos.REGISTRY:
        tags |= set(algos.make(name, MatrixGame(PAYOFF, "x").spec, Config(**SMALL)).inspected)
    for tag in (*tags, pictures.GAME):
        assert f"`{tag}" in text, tag


# Pictures.


@pytest.mark.parametrize("algo", algos.REGISTRY)
def test_games_are_drawn_with_the_greedy_cell_marked(algo):
    algorithm, env = game_of(algo, [[0, 4, 1], [0, 0, 4]])  # greedy is (1, 2)
    scene = pictures.game(algorithm, env)[pictures.GAME]
    drawn = pictures.pixels(scene)
    names = [shape.text for shape in scene.fixed if getattr(shape, "size", 0) == 15]
    value = {"iql": "mean of Q_i"}.get(algo, "Q_jt" if algo.startswith("qtran") else "Q_tot")
    assert names[0] == "payoff" and value in names
    assert ("sum of Q_i" in names) == (algo != "iql")
    assert drawn.shape == (scene.height, scene.width, 3) and drawn.dtype == np.uint8
    # The left border of cell (1, 2) of the first table is black, that of (0, 2) is not.
    side = (scene.width - 12 - 24 - 14) / 3
    x, rows = int(12 + 24 + 2 * side) + 2, [int(64 + (row + 0.5) * side) for row in (0, 1)]
    assert drawn[rows[1], x].max() < 60 and drawn[rows[0], x].min() > 90


def test_the_two_step_game_is_drawn_in_all_states():
    env = TwoStep("two_step")
    algorithm = algos.make("qmix", env.spec, Config(env="two_step", **SMALL))
    algorithm.init_weights(tf.constant([0, 0]))
    drawn = pictures.game(algorithm, env)
    assert list(drawn) == [f"game/values_{name}" for name in ("1", "2A", "2B")]
    titles = [
        [shape.text for shape in scene.fixed if getattr(shape, "text", "").endswith(" in 2A")]
        for scene in drawn.values()
    ]
    assert titles == [[], ["payoff in 2A", "Q_tot in 2A", "sum of Q_i in 2A"], []]
    played = pictures.play(env, np.asarray([[[0, 0], [0, 0]], [[1, 0], [0, 0]]], np.int32))
    assert played.state[:, 1].numpy().tolist() == [[0, 1, 0], [0, 0, 1]]
    assert played.reward.numpy().tolist() == [[0, 7], [0, 0]]


def test_what_is_no_game_of_two_agents_is_not_drawn():
    algorithm, _ = game_of("vdn", [[0, 1, 2], [0, 1, 2]])
    assert pictures.game(algorithm, None) == {}
    large = MatrixGame(np.zeros([25, 25]), "large")
    assert pictures.game(algorithm, large) == {}
    assert pictures.game(algorithm, MatrixGame(np.zeros([2, 2, 2]), "three")) == {}


def test_attention_is_drawn_as_a_table():
    about = algos.make("qatten", MatrixGame(PAYOFF, "x").spec, Config(**SMALL)).inspected
    scene = pictures.heat_map(np.asarray([[0.25, 0.75], [1, 0]]), about["qatten/attention"])
    texts = [shape.text for shape in scene.fixed if hasattr(shape, "text")]
    assert texts[:3] == ["agent 0", "agent 1", "head 0"] and "0.75" in texts
