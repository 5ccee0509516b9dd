"""Plays an episode before a training, so that a broken environment is found early."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from tfmix.envs.metrics import choose, read_metrics
from tfmix.envs.python import EnvError
from tfmix.errors import UserError
from tfmix.utils import text

if TYPE_CHECKING:
    from tfmix.envs.python.adapters.team import TeamEnv

# Longest time to play an episode.
PLAY_SECONDS = 2.0


def rehearse(team: TeamEnv) -> list[str]:
    """Start three episodes and play one, so that a broken environment is found early.

    Returns:
      what a user should know before a training, one sentence per entry.

    Raises:
      UserError: the source breaks a rule of `rules.TRAINING_RULES`.
    """
    try:
        first, _, again = [team.reset(seed) for seed in (0, 1, 0)]
        cut_short, infos = _exceeds_limit(team, again[2])
    except EnvError as error:
        raise UserError(str(error)) from error
    except Exception as error:  # such as an object that does not behave as its type promises
        raise UserError(
            f"{team.validator.name} cannot be played: {text.of_error(error)}"
        ) from error
    notices = []
    if team.finds_metrics:
        found = read_metrics(infos, team.agent_names)
        team.metric_names, others = choose(found)
        notices += [others] if others else []
    if not all(map(np.array_equal, first, again)):
        notices.append(
            "ignores its seed: runs are not reproducible, and a resumed run differs from an "
            "uninterrupted one"
        )
    if cut_short:
        notices.append(
            f"does not end at its {team.limit_from} of {team.spec.episode_limit:,} env steps: "
            "tfmix cuts its episodes there; --episode_limit sets another limit"
        )
    return notices


def _exceeds_limit(team: TeamEnv, legal: np.ndarray) -> tuple[bool, Any]:
    """Play random legal actions until the episode ends or `PLAY_SECONDS` have passed.

    Returns:
      whether the source does not end the episode at its own limit; and the infos of the
      last step.
    """
    infos: Any = {}
    draw, end = np.random.default_rng(0), time.monotonic() + PLAY_SECONDS
    while time.monotonic() < end:
        action = np.where(legal, draw.random(legal.shape), -1.0).argmax(-1)
        _, _, legal, _, terminated, truncated, infos = team.step(action)
        if terminated or truncated:
            return not team.ended and team.must_end, infos
    return False, infos
