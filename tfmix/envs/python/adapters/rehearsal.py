"""Plays an environment once before a training, so that it does not begin with a broken one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from tfmix.envs.python import EnvError
from tfmix.errors import UserError
from tfmix.utils import text

if TYPE_CHECKING:
    from tfmix.envs.python.adapters.team import TeamEnv

# An episode is played for at most that long.
PLAY_SECONDS = 2.0


def rehearse(team: TeamEnv) -> list[str]:
    """Starts episodes and plays one, so that a training does not begin with a broken one.

    Returns:
      what a user should know before a training, a sentence each.

    Raises:
      UserError: the source breaks a rule of `rules.TRAINING_RULES`.
    """
    try:
        first, _, again = [team.reset(seed) for seed in (0, 1, 0)]
        cut_short = _plays_on(team, again[2])
    except EnvError as error:
        raise UserError(str(error)) from error
    except Exception as error:  # an object that does not act as its type promises
        raise UserError(
            f"{team.validator.name} cannot be played: {text.of_error(error)}"
        ) from error
    notices = []
    if not all(map(np.array_equal, first, again)):
        notices.append(
            "ignores its seed: the same run does not come twice, and a resumed one differs "
            "from one that was never stopped"
        )
    if cut_short:
        notices.append(
            f"does not end at its {team.limit_from} of {team.spec.episode_limit:,} env steps: "
            "tfmix cuts its episodes there; --episode_limit sets another limit"
        )
    return notices


def _plays_on(team: TeamEnv, legal: np.ndarray) -> bool:
    """Plays random legal actions to the episode's end or for some seconds.

    Returns:
      whether the source plays on at a limit that it names itself.
    """
    draw, end = np.random.default_rng(0), time.monotonic() + PLAY_SECONDS
    while time.monotonic() < end:
        action = np.where(legal, draw.random(legal.shape), -1.0).argmax(-1)
        _, _, legal, _, terminated, truncated, _ = team.step(action)
        if terminated or truncated:
            return not team.ended and team.must_end
    return False
