"""The contract of an export: what it holds, and what its signatures take and give."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from tfmix.errors import UserError
from tfmix.utils import files, text

FORMAT = 1  # of contract.json
FILE = "contract.json"
NO_ACTION = -1  # the action of an agent that cannot act
FILES = {  # of an export, by format and signature; a SavedModel is a folder
    "saved_model": {"act": ".", "act_agent": "."},
    "tflite": {"act": "policy.tflite", "act_agent": "policy.tflite"},
    "onnx": {"act": "act.onnx", "act_agent": "act_agent.onnx"},
}
NEXT_HIDDEN = "next_hidden"  # what ONNX files call the output `hidden`
_FLOAT, _BOOL, _INT = "float32", "bool", "int32"
BATCH = "B"  # a free size


class Tensor(NamedTuple):
    """Type and shape of an input or output.

    Attributes:
      dtype: `float32`, `bool` or `int32`.
      shape: sizes; `"B"` is free, and the same for all tensors of a call.
    """

    dtype: str
    shape: tuple[int | str, ...]


class Signature(NamedTuple):
    """Inputs and outputs of a signature by name."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


@dataclasses.dataclass(frozen=True)
class Agent:
    """An agent of the team.

    Attributes:
      name: its name; its place in `Contract.agents` is its index.
      obs_size: the size of its observation. What follows up to O is padding with zeros.
      n_actions: the number of its actions. What follows up to A is never taken.
    """

    name: str
    obs_size: int
    n_actions: int


@dataclasses.dataclass(frozen=True)
class Contract:
    """What an export holds.

    Attributes:
      algorithm: the algorithm that trained the team.
      environment: the name of its environment.
      seed: of the training.
      env_steps: env steps after which the team had its weights.
      greedy_return: mean return of the evaluation at these env steps; None if there was none.
      tfmix: version of the tfmix that wrote the export.
      git_commit: its source code's commit, with a + if files had changed; empty without git.
      obs_size: O, the size of an observation with padding.
      n_actions: A, the number of actions with padding.
      hidden_size: K, the size of `hidden` of one agent.
      agents: the N agents in their order.
      formats: the formats that the export's folder holds, keys of `FILES`.
    """

    algorithm: str
    environment: str
    seed: int
    env_steps: int
    greedy_return: float | None
    tfmix: str
    git_commit: str
    obs_size: int
    n_actions: int
    hidden_size: int
    agents: tuple[Agent, ...]
    formats: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The agents' names in their order."""
        return [agent.name for agent in self.agents]

    @property
    def own_actions(self) -> list[list[bool]]:
        """Marks the actions that an agent has, [N, A]."""
        return [[a < agent.n_actions for a in range(self.n_actions)] for agent in self.agents]

    @property
    def signatures(self) -> dict[str, Signature]:
        """The signatures by name; `serving_default` is `act`."""

        def tensors(*lead: int | str) -> dict[str, Tensor]:
            return {
                "obs": Tensor(_FLOAT, (*lead, self.obs_size)),
                "legal": Tensor(_BOOL, (*lead, self.n_actions)),
                "hidden": Tensor(_FLOAT, (*lead, self.hidden_size)),
                "action": Tensor(_INT, lead),
                "q": Tensor(_FLOAT, (*lead, self.n_actions)),
            }

        def step(of: dict[str, Tensor], **more: Tensor) -> Signature:
            inputs = {name: of[name] for name in ("obs", "legal", "hidden")}
            return Signature({**inputs, **more}, {x: of[x] for x in ("action", "q", "hidden")})

        team, one = tensors(BATCH, len(self.agents)), tensors(BATCH)
        size = {"batch_size": Tensor(_INT, ())}
        return {
            "serving_default": step(team),
            "act": step(team),
            "act_agent": step(one, agent=Tensor(_INT, (BATCH,))),
            "initial_state": Signature(size, {"hidden": team["hidden"]}),
            "initial_state_agent": Signature(size, {"hidden": one["hidden"]}),
        }

    def as_json(self) -> str:
        """Return the text of contract.json."""
        about = dataclasses.asdict(self)
        sizes = {"n_agents": len(self.agents)}
        sizes |= {name: about.pop(name) for name in ("obs_size", "n_actions", "hidden_size")}
        formats = about.pop("formats")
        hidden = {
            "start": "zeros, at the first step of an episode",
            "use": "each step takes the hidden that the step before returned, unchanged",
            "store": "one for each episode that is played at the same time",
            "layout": "the network's memory, then the last action as one-hot if agents read it",
        }
        signatures = {
            name: {
                kind: {key: x._asdict() for key, x in of.items()}
                for kind, of in zip(("inputs", "outputs"), signature, strict=True)
            }
            for name, signature in self.signatures.items()
        }
        found = {
            "format": FORMAT,
            **about,
            "sizes": sizes,
            "signatures": signatures,
            "hidden": hidden,
            "no_action": NO_ACTION,
            "files": {name: FILES[name] for name in formats},
        }
        return json.dumps(found, indent=1) + "\n"

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Contract:
        """Read the contract of an export.

        Args:
          folder: the folder of the export.

        Raises:
          UserError: there is none, or it is damaged or of a newer tfmix.
        """
        path = Path(folder) / FILE
        try:
            return cls._of(files.read_json(files.read_text(path)))
        except FileNotFoundError as error:
            raise UserError(
                f"there is no {FILE} in {text.clean(folder)}: it is not an export of tfmix, or an "
                "older one, which --mode=export writes again"
            ) from error
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is damaged: {text.of_error(error, 200)}") from error

    @classmethod
    def _of(cls, about: dict[str, Any]) -> Contract:
        """Return what a contract.json says; raise ValueError, KeyError or TypeError if it can't."""
        if about["format"] > FORMAT:
            newer = text.clean(about["tfmix"], 40)
            raise UserError(f"the export was written by a newer tfmix ({newer}); update tfmix")
        agents = tuple(Agent(**agent) for agent in about["agents"])
        sizes = dict(about["sizes"])
        named = {name: about[name] for name in _PLAIN}
        if sizes.pop("n_agents") != len(agents) or not agents:
            raise ValueError("agents and sizes do not fit together")
        found = cls(**named, **sizes, agents=agents, formats=tuple(about["files"]))
        numbers = [found.obs_size, found.n_actions, found.hidden_size]
        numbers += [n for agent in agents for n in (agent.obs_size, agent.n_actions)]
        if not all(type(n) is int and 0 <= n < 2**31 for n in numbers):
            raise ValueError("a size is not a whole number")
        if len(set(found.names)) < len(agents) or not set(found.formats) <= set(FILES):
            raise ValueError("two agents have one name, or a format is unknown")
        return found


_PLAIN = (
    *("algorithm", "environment", "seed", "env_steps", "greedy_return"),
    *("tfmix", "git_commit"),
)
