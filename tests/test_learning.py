"""Who must succeed and who must fail, where theory gives the answer.

Each pair of algorithm and task compiles once; its seeds share the graphs.
"""

import itertools
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfmix import config, ops, run, training

PAPER = Path(__file__).parent.parent / "flags" / "paper"
SEEDS = (0, 1)


def trainer_of(flagfile):
    settings = config.parse([f"--flagfile={PAPER / flagfile}.flags"])
    chosen = config.resolve(settings)
    spec, make_collector = run.open_env(chosen)
    return training.Trainer(chosen, make_collector, spec)


def every_cell(trainer):
    """Q_jt, Q' and V of a one-step game at every joint action, each [A, A]."""
    spec, live = trainer.spec, trainer.algorithm.live
    actions = list(itertools.product(range(spec.n_actions), repeat=2))
    action = tf.constant(actions)[:, None]  # [A*A, 1, 2]
    obs, state = tf.ones([len(actions), 2, 2, 1]), tf.ones([len(actions), 1, 1])
    q, hidden = live.agent.unroll(obs, action)
    joint = live.joint(state, hidden[:, :1], action)
    if joint.shape.rank == 4:  # one network an agent
        joint = ops.take(joint, action)
    summed = tf.reduce_sum(ops.take(q[:, :1], action), -1)
    value = live.value(state, hidden[:, :1])
    table = (spec.n_actions, spec.n_actions)
    return (
        joint.numpy().reshape(*table, -1),
        summed.numpy().reshape(table),
        value.numpy().reshape(table),
    )


@pytest.mark.parametrize("algo,wanted", [("vdn", 7.0), ("qmix", 8.0)])
def test_two_step_game_vdn_returns_7_and_qmix_8(algo, wanted):
    trainer = trainer_of(f"{algo}_two_step")
    for seed in SEEDS:
        trainer.reset(seed)
        trainer.train_until(trainer.config.env_steps)
        assert trainer.play(training.EVALUATE, 1)[0] == wanted
    assert trainer.run_iterations.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("algo", ["vdn", "qmix"])
def test_monotonic_mixers_end_at_0_on_the_matrix_game(algo):
    trainer = trainer_of(f"{algo}_matrix")
    for seed in SEEDS:
        trainer.reset(seed)
        trainer.train_until(trainer.config.env_steps)
        assert trainer.play(training.EVALUATE, 1)[0] == 0.0


@pytest.mark.parametrize("algo", ["qtran_base", "qtran_alt"])
def test_qtran_ends_at_8_on_the_matrix_game_and_knows_its_payoff(algo):
    trainer = trainer_of(f"{algo}_matrix")
    payoff = trainer.collector.env.table
    for seed in SEEDS:
        trainer.reset(seed)
        trainer.train_until(trainer.config.env_steps)
        assert trainer.play(training.EVALUATE, 1)[0] == 8.0
        joint, summed, value = every_cell(trainer)
        for own in np.moveaxis(joint, -1, 0):
            np.testing.assert_allclose(own, payoff, atol=0.1)
            gap = summed - own + value  # conditions 4a and 4b of Son et al. (2019)
            assert abs(gap[0, 0]) < 0.2 and gap.min() > -0.2
        if algo == "qtran_alt":  # condition 7: beside any action of the other, one own fits
            first, second = summed - joint[..., 0] + value, summed - joint[..., 1] + value
            np.testing.assert_allclose(first.min(0), 0, atol=0.2)
            np.testing.assert_allclose(second.min(1), 0, atol=0.2)
