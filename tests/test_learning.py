"""Who must succeed and who must fail, where theory gives the answer.

Each pair of algorithm and task compiles once; its seeds share the graphs.
"""

import pytest

from benchmarks import games
from tests.conftest import slow_unless
from tfmix.config import resolve
from tfmix.training.task import open_task
from tfmix.training.trainer import Trainer

KEPT = {}  # the trainer of the game that was played last


def trainer_of(name):
    """A game's trainer; of the games only one is held in memory."""
    if name not in KEPT:
        KEPT.clear()
        KEPT[name] = games.trainer_of(name)
    return KEPT[name]


# The others take up to a minute a seed, and golden runs see them. QMIX must fail here; that
# QTRAN-alt succeeds is in test_random_games.
SHORT = ("qmix_matrix",)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name",
    slow_unless(SHORT, games.GAMES),
)
def test_game_ends_as_theory_says(name, seed):
    game, trainer = games.GAMES[name], trainer_of(name)
    assert games.train(trainer, seed) == game.greedy
    for what, (found, allowed) in games.errors_of(trainer, game).items():
        assert found <= allowed, what
    assert trainer.run_iterations.experimental_get_tracing_count() == 1


@pytest.mark.slow
@pytest.mark.parametrize("algo,low,high", [("qtran_alt", 8.0, 10.0), ("vdn", -1.0, 1.0)])
def test_the_default_task_is_learned_by_qtran_alt_and_not_by_vdn(algo, low, high):
    """The best team returns 10, one that never tries to catch 0."""
    trainer = Trainer(open_task(resolve.resolve({"algo": algo})))
    trainer.restart(0)
    trainer.train_until(trainer.config.env_steps)
    assert low <= trainer.evaluate(100).returns.mean() <= high
