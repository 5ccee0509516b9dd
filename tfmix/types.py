"""What the parts of tfmix hand to one another, and what they expect of one another.

Dimension letters, the same in every module: B episodes in a batch, T steps,
N agents, A actions, O observation size, S state size, H GRU units. `legal` is
True where an action is allowed; `mask` is 1 on real steps and 0 on padding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, runtime_checkable

import numpy as np

# `typing` has generic named tuples from Python 3.11 and defaults of type variables from 3.13.
from typing_extensions import NamedTuple, TypeVar

if TYPE_CHECKING:  # workers read this module and do not import TensorFlow
    from tensorflow import Tensor

# What an `Episode` is made of: tensors if nothing else is said, arrays, variables or specs.
T = TypeVar("T", default="Tensor")

# Descriptions of the values of `EnvSpec.team_reward`.
TEAM_REWARD = {
    "sum": "rewards summed over agents",
    "mean": "mean over agents",
    "one": "the reward that all agents share",
    "team": "team reward",
}


@dataclasses.dataclass(frozen=True)
class EnvSpec:
    """The shape of a task.

    Attributes:
      name: the name that the user gave, such as `mpe/simple_spread`.
      n_agents: N.
      n_actions: A, the size of the largest action set of an agent.
      obs_size: O, the size of the largest observation of an agent.
      state_size: S.
      episode_limit: T, the longest episode in steps.
      agent_n_actions: number of actions of every agent; actions from that number
        on are padding and never legal.
      team_reward: how the agents' rewards become one number: `sum`, `mean`, `one`,
        or `team` if the task has one reward for the team.
      version: the version of the task's source.
    """

    name: str
    n_agents: int
    n_actions: int
    obs_size: int
    state_size: int
    episode_limit: int
    agent_n_actions: tuple[int, ...]
    team_reward: str = "team"
    version: str = "1"

    @property
    def own_actions(self) -> np.ndarray:
        """True where an action is one of the agent's actions and not padding, [N, A] bool."""
        return np.arange(self.n_actions) < np.asarray(self.agent_n_actions)[:, None]


class AgentShape(NamedTuple):
    """An agent as its environment knows it.

    Attributes:
      name: printable, and different from the other agents' names.
      obs_size: the size of its observation; the entries from there to O are zeros.
    """

    name: str
    obs_size: int


class Step(NamedTuple):
    """What a graph environment returns, one row for each environment.

    obs [B, N, O] float32, state [B, S] float32, legal [B, N, A] bool,
    reward [B] float32, terminated [B] bool, truncated [B] bool.

    metrics [B, M] float32, if the environment has `metric_names`: those of the episode, which
    count as they are at its last step. NaN is a metric that the episode lacks.
    """

    obs: Tensor
    state: Tensor
    legal: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    metrics: Any = ()


class Episode(NamedTuple, Generic[T]):
    """Whole episodes, padded to T steps; the last observation is kept.

    obs [B, T+1, N, O] float32, state [B, T+1, S] float32,
    legal [B, T+1, N, A] bool, action [B, T, N] int32, reward [B, T] float32,
    terminated [B, T] float32 (1 where the value of the future is 0),
    mask [B, T] float32 (1 on real steps). A single episode lacks the B.
    """

    obs: T
    state: T
    legal: T
    action: T
    reward: T
    terminated: T
    mask: T


class Played(NamedTuple):
    """Episodes and the environment's metrics of them, [B, M] float32, NaN if one lacks a metric.

    The replay keeps the episodes alone.
    """

    episode: Episode[Any]
    metrics: Any


# What one part expects of another. `tfmix.envs.kinds.kind_of` says which kind an environment is.


class GraphEnv(Protocol):
    """A graph environment: pure TensorFlow functions over a leading batch axis B.

    All random numbers come from the seed [2] alone. `state` is any nest of
    tensors. A finished environment may be stepped on; the collector ignores
    what it returns then. It may have `metric_names`, M names of what `Step.metrics` holds,
    and `agent_names` and `agent_obs_sizes`, N each, which exports record.
    """

    @property
    def spec(self) -> EnvSpec:
        """The shape of the task."""
        ...

    def reset(self, seed: Tensor, batch: int) -> tuple[Any, Step]:
        """Start `batch` episodes and return the state and the first `Step`."""
        ...

    def step(self, state: Any, action: Tensor, seed: Tensor) -> tuple[Any, Step]:
        """Step every environment once; `action` is [B, N] int32."""
        ...


class PythonEnv(Protocol):
    """A Python environment: one episode at a time, stepped from outside.

    It may have `agent_names`, N names that errors use for its agents, and `metric_names`,
    names of the numbers in the info of an episode's last step that are the episode's metrics.
    """

    @property
    def spec(self) -> EnvSpec:
        """The shape of the task."""
        ...

    def reset(self, seed: int) -> Sequence[Any]:
        """Start an episode and return obs [N, O], state [S] and legal [N, A]."""
        ...

    def step(self, action: np.ndarray) -> Sequence[Any]:
        """Step the team and return obs, state, legal, reward, terminated, truncated, info.

        Args:
          action: [N] int, counted from 0 for every agent.
        """
        ...

    def close(self) -> None:
        """Close the environment."""
        ...


@runtime_checkable
class RehearsingEnv(PythonEnv, Protocol):
    """A Python environment that can play an episode before a training, as adapted ones can."""

    def rehearse(self) -> Sequence[str]:
        """Play an episode and return what a user should know, one sentence per entry.

        Raises:
          UserError: it cannot be played.
        """
        ...


class VectorEnv(Protocol):
    """Several environments in Python that play whole episodes in parallel.

    Attributes:
      spec: the shape of the task.
      agents: names of the N agents.
      n_envs: number of environments.
      metric_names: names of the M metrics of an episode.
      restarts: worker processes that were replaced.
      buffers: the episodes that are played, one row for each environment, as
        `tfmix.envs.python.workers.buffers.EpisodeBuffers`.
      rows_to_replay: rows that were lost with their worker; the caller empties
        the list and plays them again.
    """

    @property
    def spec(self) -> EnvSpec: ...  # noqa: D102

    agents: Sequence[Any]
    n_envs: int
    metric_names: Sequence[str]
    restarts: int
    buffers: Any
    rows_to_replay: list[int]

    def play(self, team: Any) -> None:
        """Play the rows that are marked as playing to the end of their episodes.

        Args:
          team: a `tfmix.networks.in_numpy.NumpyTeam`.

        Raises:
          EnvError: an environment violates its interface, or workers fail too often.
        """
        ...

    def close(self) -> None:
        """Close the environments."""
        ...


class Collector(Protocol):
    """Plays a team's episodes in a task.

    Attributes:
      compiled: whether `collect` may be called in a `tf.function`.
      spec: the shape of the task.
      metric_names: names of the M metrics of an episode.
      restarts: worker processes that were replaced.
    """

    compiled: bool
    spec: EnvSpec
    metric_names: Sequence[str]

    @property
    def restarts(self) -> int: ...  # noqa: D102

    def collect(self, seed: Any, first_episode: Any, epsilon: Any, batch: int) -> Episode[Any]:
        """Play `batch` episodes and return them whole and padded.

        Args:
          seed: [2] int, the run's seed and the stream.
          first_episode: [] int64, the number of the first of these episodes.
          epsilon: [] float, the probability of a random action.
          batch: B.
        """
        ...

    def play(self, seed: Any, first_episode: Any, epsilon: Any, batch: int) -> Played:
        """Play as `collect`, and return the episodes' metrics too."""
        ...

    def close(self) -> None:
        """Close the environments."""
        ...
