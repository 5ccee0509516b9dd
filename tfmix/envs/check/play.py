"""Random episodes of an environment, and what was seen in them."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np

from tfmix.envs.check.findings import Findings, Held, brief, finite, flag, number, same

Frame = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclasses.dataclass
class Episode:
    """What an episode showed.

    Attributes:
      seed: of its reset.
      frames: obs, state and legal from the reset on; the first alone where the
        rest is not kept.
      actions: [N] for every step.
      rewards: for every step.
      over: "" while it goes on, else `terminated`, `truncated` or `broken`.
      left: agents that had one action left, from some step to the end.
    """

    seed: int
    frames: list[Frame] = dataclasses.field(default_factory=list)
    actions: list[np.ndarray] = dataclasses.field(default_factory=list)
    rewards: list[float] = dataclasses.field(default_factory=list)
    over: str = ""
    left: list[int] = dataclasses.field(default_factory=list)


class Range:
    """The lowest and the highest of numbers."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf

    def take(self, values: Any) -> None:
        """Counts numbers in; those that are not finite are left out."""
        values = np.asarray(values, np.float64)
        values = values[np.isfinite(values)]
        if values.size:
            self.low, self.high = min(self.low, values.min()), max(self.high, values.max())

    def __str__(self) -> str:
        """In words."""
        if self.low > self.high:
            return "no numbers"
        return f"from {self.low:.4g} to {self.high:.4g}"


class Player:
    """Plays a random team in an environment of the Python lane and looks at everything.

    Args:
      env: has `spec`, `reset(seed)` and `step(action)`.
      watch: the `Watch` below it, or None.
      findings: takes what is found.
      seed: of the actions.
      must_end: the environment has said itself when it ends.
      limit_from: who said so.

    Attributes:
      obs, state, reward: the range of each.
      masked: steps in which an agent's own action was illegal.
    """

    def __init__(
        self, env: Any, watch: Any, findings: Findings, seed: int, must_end: bool, limit_from: str
    ):
        self.env, self.spec, self.watch, self.findings = env, env.spec, watch, findings
        self._must_end, self._limit_from = must_end, limit_from
        self._dice = np.random.default_rng(seed)
        self._own = np.asarray(self.spec.own_actions)
        self._kinds: dict[str, np.dtype[Any]] = {}
        self._held = Held()
        self.obs, self.state, self.reward = Range(), Range(), Range()
        self.masked = 0

    def play(
        self, seed: int, script: list[np.ndarray] | None = None, keep: bool = False
    ) -> Episode:
        """Plays an episode.

        Args:
          seed: of its reset.
          script: the actions, where they are legal; None for random ones.
          keep: keep all frames, not only the first.
        """
        episode, found = Episode(seed), self.findings
        found.episode, found.step = found.episode + 1, 0
        self._held.release()
        frame = self._call(episode, "reset", seed)
        limit = self.spec.episode_limit if script is None else len(script)
        while not episode.over and found.step < limit:
            legal = self._usable(frame[2])
            if keep or not episode.frames:
                episode.frames.append(frame)
            self.masked += bool((~legal & self._own).any())
            self._count_left(episode, legal)
            action = self._dice.random(legal.shape)
            if script is not None:
                action[np.arange(len(legal)), script[found.step]] = 2.0
            action = np.where(legal, action, -1.0).argmax(-1).astype(np.int32)
            found.step += 1
            episode.actions.append(action)
            frame = self._call(episode, "step", action)
        if episode.frames and episode.over != "broken":
            episode.frames.append(frame)
        if script is None and episode.over != "broken" and self._must_end:
            self._look_at_the_end(episode, frame)
        return episode

    def _call(self, episode: Episode, what: str, word: Any) -> Any:
        """Resets or steps the environment and checks what it returns: a frame."""
        try:
            given = getattr(self.env, what)(word)
        except Exception as error:
            episode.over = "broken"
            text = " ".join(str(error).removeprefix(f"{self.spec.name}: ").split())
            known = type(error).__name__ == "EnvError"
            self.findings.add(
                f"raised {what}",
                text if known else f"{what}() raised {type(error).__name__}: {text}",
                "mend the environment; the actions were legal ones by its own mask",
            )
            return None
        self._held.release(self.findings)
        size = 3 if what == "reset" else 7
        if not isinstance(given, tuple | list) or len(given) != size:
            episode.over = "broken"
            self.findings.add(
                f"values of {what}",
                f"{what} returned {brief(given)}, not {size} values",
                "return obs, state, legal, and from step also reward, terminated, truncated, info",
            )
            return None
        if what == "step":
            self._take_step(episode, *given[3:6])
        return self._frame(*given[:3], last=bool(episode.over))

    def _take_step(self, episode: Episode, reward: Any, terminated: Any, truncated: Any) -> None:
        found = number(reward)
        if found is None or not np.isfinite(found):
            self.findings.add(
                "reward", f"the reward is {brief(reward)}, not a finite number", "return one float"
            )
        episode.rewards.append(found or 0.0)
        self.reward.take(found or 0.0)
        for name, value in (("terminated", terminated), ("truncated", truncated)):
            if flag(value) is None:
                self.findings.add(name, f"{name} is {brief(value)}", "return True or False")
            elif value and not episode.over:
                episode.over = name

    def _frame(self, obs: Any, state: Any, legal: Any, last: bool) -> Frame | None:
        """Checks shapes, number types and numbers; takes what does not fit as zeros."""
        spec = self.spec
        shapes = {
            "obs": (obs, (spec.n_agents, spec.obs_size)),
            "state": (state, (spec.state_size,)),
            "legal": (legal, (spec.n_agents, spec.n_actions)),
        }
        arrays = []
        for name, (value, shape) in shapes.items():
            array = np.asarray(value)
            if array.shape != shape or array.dtype.kind not in "biuf":
                self.findings.add(
                    f"shape {name}",
                    f"{name} is {array.dtype} {list(array.shape)}, its spec says {list(shape)}",
                    "return what the spec says, or say there what is returned",
                )
                array = np.zeros(shape)
            elif array.dtype != (first := self._kinds.setdefault(name, array.dtype)):
                self.findings.add(
                    f"type {name}",
                    f"{name} changed from {first} to {array.dtype}",
                    "return the same number type at every step and in every episode",
                )
            if name != "legal" and not finite(array):
                self.findings.add(
                    f"not finite {name}",
                    f"{name} holds NaN or infinite numbers",
                    "find the division or logarithm that they come of",
                )
            self._held.hold(name, None, value)
            arrays.append(array.copy())
        self.obs.take(arrays[0])
        self.state.take(arrays[1])
        self._check_legal(arrays[2].astype(bool), last)
        return arrays[0], arrays[1], arrays[2].astype(bool)

    def _check_legal(self, legal: np.ndarray, last: bool) -> None:
        for i in np.flatnonzero((legal & ~self._own).any(-1)):
            self.findings.add(
                "padding",
                "agents {who} are allowed actions that agent_n_actions does not count",
                "make padding illegal",
                i,
            )
        for i in () if last else np.flatnonzero(~(legal & self._own).any(-1)):
            self.findings.add(
                "no legal action",
                "agents {who} have no legal action",
                "leave every agent one action, a no-op for those that can do nothing",
                i,
            )

    def _usable(self, legal: np.ndarray) -> np.ndarray:
        """`legal`, with all own actions where it allows none."""
        legal = legal & self._own
        return np.where(legal.any(-1, keepdims=True), legal, self._own)

    def _count_left(self, episode: Episode, legal: np.ndarray) -> None:
        """Which agents, that could do more before, have had one action ever since."""
        single = (legal.sum(-1) == 1) & (self._own.sum(-1) > 1)
        free = getattr(self, "_free", None) if episode.actions else None
        free = ~single if free is None else free | ~single
        self._free = free
        episode.left = [int(i) for i in np.flatnonzero(single & free)]

    def _look_at_the_end(self, episode: Episode, frame: Any) -> None:
        """Did the environment end the episode at its limit by itself?"""
        ended = self.watch.ended if self.watch else bool(episode.over)
        if ended or "limit" in self.findings.violations:
            return
        limit, beyond = self.spec.episode_limit, Episode(episode.seed)
        for more in range(1, limit + 1):
            legal = self._usable(frame[2])
            action = np.where(legal, self._dice.random(legal.shape), -1.0).argmax(-1)
            frame = self._call(beyond, "step", action.astype(np.int32))
            if beyond.over == "broken" or frame is None:
                break
            if self.watch.ended if self.watch else beyond.over:
                self.findings.add(
                    "limit",
                    f"an episode took {limit + more:,} env steps, and its limit is {limit:,} "
                    f"({self._limit_from})",
                    f"truncate it there, or give --episode_limit={limit + more}",
                )
                return
        self.findings.add(
            "limit",
            f"neither terminated nor truncated came at the limit of {limit:,} env steps "
            f"({self._limit_from}), nor in as many more",
            "return truncated=True at the limit; where an environment never ends by itself, "
            "--episode_limit ends it",
        )

    def check_seed(self, first: Episode, others: list[Episode]) -> None:
        """Plays `first` again, with its seed and with another."""
        again = self.play(first.seed, first.actions, keep=True)
        if difference := _difference(first, again):
            self.findings.add(
                "seed",
                f"the same seed and actions gave two different episodes: {difference}",
                "draw everything of a generator that reset(seed=...) starts anew, and keep nothing "
                "of the episode before",
            )
            return
        starts = [first, *others]
        if any(not _same_frame(first.frames[0], e.frames[0]) for e in starts if e.frames):
            return
        if not _difference(first, self.play(first.seed + 1, first.actions, keep=True)):
            self.findings.episode = 0
            self.findings.add(
                "seeds",
                "every seed gives the same episode",
                "fine where the task has no chance in it; else draw of reset's seed",
                warning=True,
            )


def _same_frame(one: Frame, other: Frame) -> bool:
    return all(same(x, y) for x, y in zip(one, other, strict=True))


def _difference(one: Episode, other: Episode) -> str:
    """Where and in what two episodes of the same actions part, nothing if nowhere."""
    for step, (a, b) in enumerate(zip(one.frames, other.frames, strict=False)):
        for name, x, y in zip(("observations", "state", "legal actions"), a, b, strict=True):
            if not same(x, y):
                return f"other {name} {f'at step {step}' if step else 'at the reset'}"
    for step, (x, y) in enumerate(zip(one.rewards, other.rewards, strict=False)):
        if not same(x, y):
            return f"another reward at step {step + 1}"
    if len(one.rewards) != len(other.rewards) or one.over != other.over:
        return f"one ended at step {len(one.rewards)}, the other at {len(other.rewards)}"
    return ""


def speed(env: Any, seed: int, seconds: float) -> float | None:
    """Env steps per second of a random team, resets included; None where it fails."""
    spec, dice = env.spec, np.random.default_rng(seed)
    own, env_steps, spent = np.asarray(spec.own_actions), 0, 0.0
    try:
        while spent < seconds:
            begin = time.perf_counter()
            legal = env.reset(seed + env_steps)[2]
            spent += time.perf_counter() - begin
            for _ in range(spec.episode_limit):
                noise = np.where(legal & own, dice.random(own.shape), -1.0)
                begin = time.perf_counter()
                _, _, legal, _, terminated, truncated, _ = env.step(noise.argmax(-1))
                spent += time.perf_counter() - begin
                env_steps += 1
                if terminated or truncated or spent > seconds:
                    break
    except Exception:  # it was told already
        return None
    return env_steps / spent
