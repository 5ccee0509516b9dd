"""Who must succeed and who must fail, where theory gives the answer.

Each pair of algorithm and task compiles once; its seeds share the graphs.
"""

import numpy as np
import pytest

from benchmarks import games

SEEDS = (0, 1)


@pytest.mark.parametrize("algo,wanted", [("vdn", 7.0), ("qmix", 8.0)])
def test_two_step_game_vdn_returns_7_and_qmix_8(algo, wanted):
    trainer = games.trainer_of(f"{algo}_two_step")
    for seed in SEEDS:
        assert games.train(trainer, seed) == wanted
    assert trainer.run_iterations.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("algo", ["vdn", "qmix", "qatten"])
def test_monotonic_mixers_end_at_0_on_the_matrix_game(algo):
    trainer = games.trainer_of(f"{algo}_matrix")
    for seed in SEEDS:
        assert games.train(trainer, seed) == 0.0


@pytest.mark.parametrize("algo", ["qtran_base", "qtran_alt"])
def test_qtran_ends_at_8_on_the_matrix_game_and_knows_its_payoff(algo):
    trainer = games.trainer_of(f"{algo}_matrix")
    for seed in SEEDS:
        assert games.train(trainer, seed) == 8.0
        errors = games.every_cell(trainer).errors(trainer.collector.env.table)
        assert errors["Q_jt"] < 0.1 and errors["4a"] < 0.2 and errors["4b"] < 0.2
        assert algo == "qtran_base" or errors["7"] < 0.2


# What QMIX's mixer ends at where the joint action is not the best: weights of
# 0.1 leave -6 (CW) and -12 * 0.1 / 1.1 (OW), the weighted means of what is there.
@pytest.mark.parametrize("algo,others", [("cw_qmix", -6.0), ("ow_qmix", -12 * 0.1 / 1.1)])
def test_weighted_qmix_ends_at_8_on_the_matrix_game_with_the_values_of_theory(algo, others):
    trainer = games.trainer_of(f"{algo}_matrix")
    for seed in SEEDS:
        assert games.train(trainer, seed) == 8.0
        q_tot, star = games.mixed_cells(trainer)
        np.testing.assert_allclose(star, trainer.collector.env.table, atol=0.1)
        np.testing.assert_allclose(q_tot[0, 0], 8.0, atol=0.1)
        np.testing.assert_allclose(q_tot.ravel()[1:], others, atol=0.5)


def test_qplex_ends_at_8_on_the_matrix_game():
    trainer = games.trainer_of("qplex_matrix")
    for seed in SEEDS:
        assert games.train(trainer, seed) == 8.0
