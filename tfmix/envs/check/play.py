"""Plays random episodes of an environment and records what they show."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfmix.envs.check.findings import Findings
from tfmix.envs.check.values import Range
from tfmix.envs.metrics import read_metrics
from tfmix.envs.python import EnvError
from tfmix.envs.python.adapters.reading import brief, flag, number
from tfmix.envs.python.adapters.team import TeamEnv
from tfmix.envs.python.workers.stepper import agent_names

Frame = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclasses.dataclass
class PlayedEpisode:
    """Records an episode.

    Attributes:
      seed: the seed of its reset.
      frames: obs, state and legal from the reset on, or only those of the reset.
      actions: [N] for every step.
      rewards: the team's reward of every step.
      over: "" while it runs, else `terminated`, `truncated` or `broken`.
      left: agents that had only one legal action from some step to the end.
      metrics: the numbers in the info of its last step.
    """

    seed: int
    frames: list[Frame] = dataclasses.field(default_factory=list)
    actions: list[np.ndarray] = dataclasses.field(default_factory=list)
    rewards: list[float] = dataclasses.field(default_factory=list)
    over: str = ""
    left: np.ndarray | tuple[int, ...] = ()
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)


class EpisodeRunner:
    """Plays a random team in a Python environment and checks everything that it returns.

    Args:
      env: has `spec`, `reset(seed)` and `step(action)`.
      observer: the `SourceObserver` of its source, or None.
      findings: receives the broken rules.
      seed: seed of the random actions.
      limit_from: where the episode limit comes from.
      must_end: whether the environment has to end its episodes at the limit.

    Attributes:
      obs: range of the observations.
      state: range of the states.
      reward: range of the team's rewards.
      masked: number of steps in which an action of an agent was illegal.
    """

    def __init__(
        self,
        env: Any,
        observer: Any,
        findings: Findings,
        seed: int,
        limit_from: str,
        must_end: bool,
    ):
        self.env, self.spec, self.observer, self.findings = env, env.spec, observer, findings
        self._limit_from, self._must_end = limit_from, must_end
        self._random = np.random.default_rng(seed)
        self._own = np.asarray(self.spec.own_actions)
        self._kinds: dict[str, np.dtype[Any]] = {}
        self.obs, self.state, self.reward = Range(), Range(), Range()
        self.masked = 0

    def play(
        self, seed: int, script: list[np.ndarray] | None = None, keep: bool = False
    ) -> PlayedEpisode:
        """Play an episode.

        Args:
          seed: the seed of its reset.
          script: the actions, replaced by random ones if illegal; None for random
            actions only.
          keep: whether to keep all frames, not only the first.
        """
        episode, found = PlayedEpisode(seed), self.findings
        found.episode, found.step = found.episode + 1, 0
        frame = self._call(episode, "reset", seed)
        free = np.zeros(self.spec.n_agents, bool)  # agents that had a choice before
        limit = self.spec.episode_limit if script is None else len(script)
        while not episode.over and found.step < limit:
            if keep or not episode.frames:
                episode.frames.append(frame)
            legal = self._usable(frame[2])
            self.masked += bool((~legal & self._own).any())
            single = (legal.sum(-1) == 1) & (self._own.sum(-1) > 1)
            free |= ~single
            episode.left = np.flatnonzero(single & free)
            action = self._choose(legal, None if script is None else script[found.step])
            found.step += 1
            episode.actions.append(action)
            frame = self._call(episode, "step", action)
        if keep and episode.over != "broken":
            episode.frames.append(frame)
        if self._must_end and script is None and episode.over != "broken":
            self._play_on(episode, frame)
        return episode

    def _usable(self, legal: np.ndarray) -> np.ndarray:
        """Return `legal`, with all of an agent's actions if it allows none."""
        legal = legal & self._own
        return np.where(legal.any(-1, keepdims=True), legal, self._own)

    def _choose(self, legal: np.ndarray, wanted: np.ndarray | None = None) -> np.ndarray:
        """Return the wanted actions if they are legal, and random legal ones otherwise."""
        noise = self._random.random(legal.shape)
        if wanted is not None:
            noise[np.arange(len(legal)), wanted] = 2.0
        return np.where(legal, noise, -1.0).argmax(-1).astype(np.int32)

    def _call(self, episode: PlayedEpisode, what: str, argument: Any) -> Any:
        """Reset or step the environment and check what it returns: a frame."""
        try:
            given = getattr(self.env, what)(argument)
        except Exception as error:
            episode.over, text = "broken", str(error).removeprefix(f"{self.spec.name}: ")
            if not isinstance(error, EnvError):
                text = f"{what}() raised {type(error).__name__}: {text}"
            self.findings.add("raised", what=what, text=brief(text, 200))
            return None
        wanted = 3 if what == "reset" else 7
        if not isinstance(given, tuple | list) or len(given) != wanted:
            episode.over = "broken"
            self.findings.add("values", what=what, found=brief(given), wanted=wanted)
            return None
        if what == "step":
            self._take_step(episode, *given[3:6])
            if episode.over:
                episode.metrics = read_metrics(given[6], agent_names(self.env))
        return self._frame(given[0], given[1], given[2], last=bool(episode.over))

    def _take_step(
        self, episode: PlayedEpisode, reward: Any, terminated: Any, truncated: Any
    ) -> None:
        found = number(reward)
        if found is None:
            wanted = "one number for the team"
            self.findings.add("reward", what="the reward", found=brief(reward), wanted=wanted)
        elif not np.isfinite(found):
            self.findings.add("finite", what="the reward")
        found = found if found is not None and np.isfinite(found) else 0.0
        episode.rewards.append(found)
        self.reward.take(found)
        for name, value in (("terminated", terminated), ("truncated", truncated)):
            if flag(value) is None:
                self.findings.add("flag", "the team", what=name, found=brief(value))
            if np.any(value) and not episode.over:
                episode.over = name

    def _frame(self, obs: Any, state: Any, legal: Any, last: bool) -> Frame:
        """Check obs, state and legal, and replace what does not fit by zeros."""
        n = self.spec.n_agents
        found: Frame = (
            self._array("obs", obs, (n, self.spec.obs_size)),
            self._array("state", state, (self.spec.state_size,)),
            self._array("legal", legal, (n, self.spec.n_actions)).astype(bool),
        )
        self.obs.take(found[0])
        self.state.take(found[1])
        for i in np.flatnonzero((found[2] & ~self._own).any(-1)):
            self.findings.add("padding", i)
        if not last:
            for i in np.flatnonzero(~(found[2] & self._own).any(-1)):
                self.findings.add("illegal", i)
        return found

    def _array(self, name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Return a copy of `value`, or zeros if it has another shape or holds no numbers."""
        try:
            array = np.array(value)
        except ValueError:  # ragged
            array = np.array(None)
        if array.shape != shape or array.dtype.kind not in "biuf":
            found = f"{list(array.shape)} of {array.dtype}"
            self.findings.add("shape", what=name, found=found, wanted=f"{list(shape)}, as in spec")
            return np.zeros(shape)
        first = self._kinds.setdefault(name, array.dtype)
        if first != array.dtype:
            self.findings.add("kind", what=name, old=first, new=array.dtype)
        bad = ~np.isfinite(array.astype(np.float64))
        if array.ndim == 1 and bad.any():
            self.findings.add("finite", what=name)
        elif bad.any():
            for i in np.flatnonzero(bad.any(-1)):
                self.findings.add("finite", i, what=name + " of {who}")
        return array

    def _has_ended(self, episode: PlayedEpisode) -> bool:
        """Return whether the environment has ended the episode, and not tfmix's time limit."""
        return self.env.ended if isinstance(self.env, TeamEnv) else bool(episode.over)

    def _play_on(self, episode: PlayedEpisode, frame: Any) -> None:
        """Play beyond the limit, to find out whether and when the environment ends an episode."""
        ended = self._has_ended(episode)
        if ended or self.findings.has("late", "endless"):
            return
        limit, beyond = self.spec.episode_limit, PlayedEpisode(episode.seed)
        fields = {"limit": limit, "limit_from": self._limit_from}
        for more in range(1, limit + 1):
            frame = self._call(beyond, "step", self._choose(self._usable(frame[2])))
            if beyond.over == "broken":
                break
            if self._has_ended(beyond):
                self.findings.add("late", found=limit + more, **fields)
                return
        self.findings.add("endless", **fields)
