"""Random payoffs: what the benchmark draws, and who finds the best joint action.

The long forms are slow; `python benchmarks/random_games.py` trains all games.
"""

import argparse
import itertools

import numpy as np
import pytest

from benchmarks import exact_critic
from benchmarks import random_games as suite
from benchmarks.random_games import Cell
from tfmix.config import resolve

QTRAN_GAME = np.asarray([[8.0, -12.0, -12.0], [-12.0, 0.0, 0.0], [-12.0, 0.0, 0.0]])


def test_a_lone_optimum_has_penalties_around_it():
    for number in range(5):
        (payoff,), best = suite.draw(Cell("vdn", "4x4x4", 1), "lone", number)
        at = np.unravel_index(payoff.argmax(), payoff.shape)
        assert payoff[at] == best and (payoff == best).sum() == 1
        for axis in range(3):
            row = np.moveaxis(payoff, axis, -1)[tuple(np.delete(at, axis))]
            line = np.delete(row, at[axis])
            np.testing.assert_array_equal(line, [suite.PENALTY] * 3)


@pytest.mark.parametrize("shape", ["3x3", "3x3x1"])
def test_the_best_return_of_two_steps_is_that_of_every_plan(shape):
    payoff, best = suite.draw(Cell("vdn", shape, 2), "ordinary", 3)
    every = list(itertools.product(*map(range, suite.sizes(shape))))
    plans = [payoff[0][u] + payoff[1 + sum(u) % 2][v] for u in every for v in every]
    np.testing.assert_allclose(max(plans), best)


def test_a_game_is_the_same_whatever_else_is_asked():
    first, other = (suite.draw(Cell(algo, "3x3", 1), "lone", 1)[0] for algo in ("iql", "qplex"))
    np.testing.assert_array_equal(first, other)
    assert not np.array_equal(first, suite.draw(Cell("iql", "3x3", 1), "lone", 2)[0])


def test_theory_knows_what_a_sum_can_say():
    assert suite.theory("vdn", QTRAN_GAME[None], 8.0) == suite.theory("iql", QTRAN_GAME[None], 8.0)
    assert suite.theory("qatten", QTRAN_GAME[None], 8.0) == 0.0
    assert suite.theory("qtran_alt", QTRAN_GAME[None], 8.0) == 8.0
    # Two steps, by hand: 0 at first, then 7 whatever happens or [[0, 1], [1, 8]]. The sum counts on
    # 13/2 there, see two_step, and so goes to the safe 7; agents by themselves on (1 + 8)/2.
    two_step = np.stack([np.zeros([2, 2]), np.full([2, 2], 7.0), [[0.0, 1.0], [1.0, 8.0]]])
    assert suite.additive(two_step[2]) == ((1, 1), [4.5, 4.5], 6.5)
    assert suite.additive_return(two_step, own=False) == 7.0


def test_the_environment_pays_its_variable_and_leads_on():
    import tensorflow as tf

    env = suite.RandomGame((2, 3), 2)
    env.payoff.assign(np.arange(18.0).reshape(3, 2, 3))
    place, seen = env.reset(tf.constant([0, 0]), 2)
    assert env.spec.agent_n_actions == (2, 3) and not seen.legal[0, 0, 2]
    place, seen = env.step(place, tf.constant([[0, 2], [1, 2]]), None)
    np.testing.assert_array_equal(seen.reward, [2, 5])
    np.testing.assert_array_equal(seen.state, [[0, 1, 0], [0, 0, 1]])
    _, seen = env.step(place, tf.constant([[1, 0], [1, 0]]), None)
    np.testing.assert_array_equal(seen.reward, [6 + 3, 12 + 3])
    assert np.all(seen.terminated)


def test_what_is_done_is_not_trained_again(tmp_path):
    out = tmp_path / "rows.csv"
    asked = argparse.Namespace(out=out, kind=["lone"], games=2, seeds=1, settings=("--gamma=0.5",))
    cell = Cell("vdn", "3x3", 1)
    assert suite.missing(asked, cell) == [("lone", 0, 0), ("lone", 1, 0)]
    row = {**dict.fromkeys(suite.FOUND, "1"), **cell._asdict(), "kind": "lone", "game": 1}
    suite.append(out, {**row, "seed": 0, "settings": "--gamma=0.5"})
    assert suite.missing(asked, cell) == [("lone", 0, 0)]
    with out.open("a") as file:
        file.write("vdn,3x3,1,lone,0,0,--ga")  # interrupted
    assert suite.missing(asked, cell) == [("lone", 0, 0)]
    suite.append(out, {**row, "game": 0, "seed": 0, "settings": "--gamma=0.5"})
    assert suite.missing(asked, cell) == []
    asked.settings = ()
    assert len(suite.missing(asked, cell)) == 2


def reached(algo, shape, payoffs, settings=()):
    """The greedy returns after training on each payoff, and the trainer."""
    trainer = suite.trainer_of(Cell(algo, shape, 1), settings)
    return [suite.play(trainer, payoff, seed=0)[0] for payoff in payoffs], trainer


def test_qtran_alt_finds_the_optimum_beside_an_agent_of_one_action():
    """L_nopt-min of the third agent would ask for equality at all nine joint actions."""
    payoff = QTRAN_GAME[None, ..., None]
    (found,), trainer = reached("qtran_alt", "3x3x1", [payoff], ["--env_steps=12000"])
    assert found == 8.0
    trainer.train_until(trainer.env_steps() + 400)
    losses = trainer.take_means()
    assert losses["loss_nopt_min"] < 0.05 and losses["loss_opt"] < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["qtran_alt", "qtran_base", "cw_qmix", "qplex"])
def test_three_agents_find_lone_optima(algo):
    """Not with the paper's (7), PyMARL's weight of L_nopt, alpha 0.1, or QPLEX's alpha 1."""
    games = [suite.draw(Cell(algo, "4x4x4", 1), "lone", number) for number in range(4)]
    found, _ = reached(algo, "4x4x4", [payoff for payoff, _ in games])
    assert sum(f > best - suite.CLOSE for f, (_, best) in zip(found, games, strict=True)) >= 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "algo,form,published",
    [
        ("qtran_alt", "alt:{0.nopt_min_loss}:{0.qtran_slack}", "alt:1:1"),
        ("qtran_base", "base:{0.nopt_min_loss}", "base:0.1"),
        ("cw_qmix", "cw:{0.wqmix_alpha}", "cw:0.1"),
        ("qplex", "qplex:{0.duplex_alpha}", "qplex:1"),
    ],
)
def test_defaults_find_lone_optima_that_published_weights_miss(algo, form, published):
    """With an exact critic, so that nothing but the loss decides."""
    random = np.random.default_rng(0)
    payoff = np.stack([suite.table((4, 4, 4), True, random) for _ in range(20)])
    default = form.format(resolve.resolve({"algo": algo, "env": "matrix/custom"}))
    assert exact_critic.optima(payoff, default, steps=2000) >= 15
    assert exact_critic.optima(payoff, published, steps=2000) <= 11
