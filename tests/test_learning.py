"""Who must succeed and who must fail, where theory gives the answer.

Each pair of algorithm and task compiles once; its seeds share the graphs.
"""

import pytest

from benchmarks import games

SEEDS = (0, 1)


@pytest.mark.parametrize("name", games.GAMES)
def test_the_games_end_as_theory_says(name):
    game, trainer = games.GAMES[name], games.trainer_of(name)
    for seed in SEEDS:
        assert games.train(trainer, seed) == game.greedy
        for what, (found, allowed) in games.errors_of(trainer, game).items():
            assert found <= allowed, what
    assert trainer.run_iterations.experimental_get_tracing_count() == 1
