"""Repeats episodes: what a seed decides, and how fast an environment is."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from tfmix.envs.check.play import EpisodeRunner, PlayedEpisode
from tfmix.envs.check.values import nearly_equal

SEEN = ("observations", "state", "legal actions")


def check_seed(runner: EpisodeRunner, first: PlayedEpisode, others: list[PlayedEpisode]) -> None:
    """Repeat `first` with its seed and with another one, and the starts of the other episodes.

    Args:
      runner: plays, and receives the findings.
      first: a whole episode with all frames.
      others: episodes with other seeds; they are repeated in reverse order.
    """
    difference = _difference(first, runner.play(first.seed, first.actions, keep=True))
    others = [other for other in others if other.frames]
    for other in others[::-1]:
        # State that an episode leaves to the next may show in a few starts only.
        again = runner.play(other.seed, [], keep=True)
        difference = difference or _difference(other, again, starts=True)
    if difference:
        runner.findings.add("seed", found=difference)
    elif not any(_difference(first, other, starts=True) for other in others) and not _difference(
        first, runner.play(first.seed + 1, first.actions, keep=True)
    ):
        runner.findings.add("seeds")


def _difference(one: PlayedEpisode, other: PlayedEpisode, starts: bool = False) -> str:
    """Return where two episodes of the same actions, or their starts, differ; "" if nowhere."""
    for step, (a, b) in enumerate(zip(one.frames, other.frames, strict=False)):
        for name, x, y in zip(SEEN, a, b, strict=True):
            if not nearly_equal(x, y):
                return f"other {name} {f'at step {step}' if step else 'at the reset'}"
        if starts:
            return ""
    for step, rewards in enumerate(zip(one.rewards, other.rewards, strict=False), 1):
        if not nearly_equal(*rewards):
            return f"another reward at step {step}"
    if (len(one.rewards), one.over) != (len(other.rewards), other.over):
        return f"{_end(one)} and {_end(other)}"
    return ""


def _end(episode: PlayedEpisode) -> str:
    return f"{episode.over or 'going on'} at step {len(episode.rewards)}"


def measure_speed(env: Any, seed: int, seconds: float) -> float | None:
    """Measure env steps per second of a random team, with resets; None if it fails."""
    spec, random = env.spec, np.random.default_rng(seed)
    own_actions, env_steps, spent = np.asarray(spec.own_actions), 0, 0.0
    try:
        while spent < seconds:
            begin = time.perf_counter()
            legal = env.reset(seed + env_steps)[2]
            spent += time.perf_counter() - begin
            for _ in range(spec.episode_limit):
                action = np.where(legal & own_actions, random.random(legal.shape), -1.0).argmax(-1)
                begin = time.perf_counter()
                _, _, legal, _, terminated, truncated, _ = env.step(action)
                spent += time.perf_counter() - begin
                env_steps += 1
                if terminated or truncated or spent > seconds:
                    break
    except Exception:  # it is a finding already
        return None
    return env_steps / spent
