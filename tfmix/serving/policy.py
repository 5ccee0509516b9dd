"""A policy that is ready to serve: an export with names, checks and the clients' states."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np

from tfmix.errors import UserError
from tfmix.serving.checks import find_agent, find_signature, read_inputs, refuse, to_array
from tfmix.serving.clients import Clients, Episode
from tfmix.serving.contract import NO_ACTION, Contract
from tfmix.serving.runtimes import MODULES, open_signatures
from tfmix.utils import text

MOST_CLIENTS = 10_000


class Policy:
    """The greedy policy of an export.

        policy = Policy("runs/x/export")
        policy.reset()
        actions = policy.act({"a": [1, 0, 0], "b": [1, 0]}, {"a": [1, 1], "b": [1, 0]})

    It needs the runtime of the format, and nothing that trains. Threads may share it.

    Args:
      folder: the folder of the export.
      format: `saved_model` (TensorFlow), `tflite` (LiteRT) or `onnx` (onnxruntime).
      most_clients: the number of clients whose `hidden` is kept, N times K times 4 bytes
        each. One more client forgets the one whose last call is the oldest; its next call
        is a UserError.

    Attributes:
      contract: what the export holds.

    Raises:
      UserError: the folder is not an export, the format is not in it or not known, its runtime is
        not installed, or a file is damaged.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        format: str = "saved_model",  # noqa: A002 (as --format)
        most_clients: int = MOST_CLIENTS,
    ):
        if format not in MODULES:
            near = text.nearest(str(format), MODULES)
            raise UserError(
                f"there is no format {text.clean(repr(format), 60)}{near}; "
                f"there are {', '.join(MODULES)}"
            )
        self.contract = Contract.read(folder)
        self._functions = open_signatures(folder, format)
        self._clients = Clients(most_clients)

    # By agent name.

    def reset(self, client: Hashable = "") -> None:
        """Start an episode of a client; the agents' memory becomes zero."""
        self._clients.start(client, Episode(self._zeros(1)))

    def end(self, client: Hashable) -> None:
        """Forget a client whose episode has ended."""
        self._clients.end(client)

    def act(
        self,
        obs: Mapping[str, Any],
        legal: Mapping[str, Any] | None = None,
        *,
        client: Hashable = "",
    ) -> dict[str, int]:
        """Return the team's greedy actions at the next step of a client's episode.

        Args:
          obs: by agent, its observation, with its own size or padded to O. None for an agent
            that has left the episode.
          legal: by agent, True or 1 for each of its legal actions, with its own number of
            actions or padded to A; None, or None for an agent, if all its actions are legal.
          client: whose episode it is; `reset` starts it.

        Returns:
          by agent, the number of its action. Agents that have left have none.

        Raises:
          UserError: an agent is missing or not known, a shape is wrong, an observation is not
            finite, no action is legal, or the client has no episode. The message names the
            agent, and the episode is unchanged.
        """
        names = self.contract.names
        self._check_names("obs", obs)
        if legal is not None:
            self._check_names("legal", legal)
        inputs = {
            "obs": [self._obs_of(i, obs[name]) for i, name in enumerate(names)],
            "legal": [
                self._left()
                if obs[name] is None
                else self._legal_of(i, None if legal is None else legal[name])
                for i, name in enumerate(names)
            ],
        }
        out = self.infer("act", {key: [rows] for key, rows in inputs.items()}, client)
        acted = zip(names, out["action"][0].tolist(), strict=True)
        return {name: action for name, action in acted if obs[name] is not None}

    def act_agent(
        self, agent: str | int, obs: Any, legal: Any = None, *, client: Hashable = ""
    ) -> int:
        """Return one agent's greedy action at the next step of a client's episode.

        Each agent has its own place in the client's episode, so that one client can call it for
        each of its agents in turn.

        Args:
          agent: its name or index.
          obs: its observation, as in `act`.
          legal: its mask, as in `act`.
          client: as in `act`.

        Raises:
          UserError: as `act`.
        """
        i = find_agent(self.contract, agent)
        rows = {"obs": self._obs_of(i, obs), "legal": self._legal_of(i, legal), "agent": i}
        out = self.infer("act_agent", {key: [row] for key, row in rows.items()}, client)
        return int(out["action"][0])

    # By signature.

    def infer(
        self,
        signature: str,
        inputs: Mapping[str, Any],
        client: Hashable = None,
        start: bool = False,
    ) -> dict[str, np.ndarray]:
        """Call a signature of the export with checked inputs.

        Args:
          signature: `act`, `serving_default`, `act_agent`, `initial_state` or
            `initial_state_agent`, as docs/serving.md describes them.
          inputs: arrays by name.
          client: whose `hidden` this object keeps; `hidden` is neither input nor output then.
            None if the caller keeps `hidden`, which is an input and an output.
          start: whether this is the first step of the client's episodes, of all agents.

        Returns:
          arrays by name.

        Raises:
          UserError: an input is wrong, an agent cannot act, or the client has no episode.
            The client's episodes are unchanged.
        """
        checked = read_inputs(self.contract, signature, inputs, kept_hidden=client is not None)
        if "batch_size" in checked:
            shape = find_signature(self.contract, signature).outputs["hidden"].shape[1:]
            return {"hidden": np.zeros([int(checked["batch_size"]), *shape], np.float32)}
        if client is None:
            return self._run(signature, checked)
        with self._episode(client, len(checked["obs"]), start) as episode:
            place: Any = (...,)
            if "agent" in checked:
                place = (np.arange(len(episode.hidden)), checked["agent"])
            out = self._run(signature, {**checked, "hidden": episode.hidden[place]})
            hidden = episode.hidden.copy()
            hidden[place] = out.pop("hidden")
            episode.hidden = hidden
        return out

    @contextlib.contextmanager
    def _episode(self, client: Hashable, rows: int, start: bool) -> Iterator[Episode]:
        """Yield a client's episode, locked; hold a new one after the call has succeeded."""
        episode = Episode(self._zeros(rows)) if start else self._clients.find(client)
        with episode.lock:
            if len(episode.hidden) != rows:
                raise UserError(
                    f"client {text.clean(repr(client), 80)} started {len(episode.hidden)} episodes "
                    f"in parallel, and the inputs are for {rows}"
                )
            yield episode
        if start:
            self._clients.start(client, episode)

    def _run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Call the runtime; raise UserError if an agent cannot act."""
        name = "act" if signature == "serving_default" else signature
        found = self._functions[name](**inputs)
        out = {name: found[name] for name in ("action", "q", "hidden")}
        stuck = np.asarray(out["action"]) == NO_ACTION
        refuse(self.contract, inputs, stuck, "its values overflow, because its obs is too large")
        return out

    # Padding.

    def _zeros(self, rows: int) -> np.ndarray:
        """Return the hidden state of an episode's start, [B, N, K]."""
        contract = self.contract
        return np.zeros([rows, len(contract.agents), contract.hidden_size], np.float32)

    def _check_names(self, what: str, given: Any) -> None:
        """Raise UserError unless a dict has exactly the agents as its keys."""
        if not isinstance(given, Mapping):
            raise UserError(f"{what} is {type(given).__name__}, and it takes a dict by agent name")
        for name in given:
            if name not in self.contract.names:
                find_agent(self.contract, str(name))
        for name in self.contract.names:
            if name not in given:
                left = "; None is for an agent that has left the episode" * (what == "obs")
                raise UserError(f"{what} lacks agent {text.clean(repr(name), 80)}{left}")

    def _obs_of(self, i: int, given: Any) -> np.ndarray:
        """Return an agent's observation, padded to [O]; zeros for None."""
        if given is None:
            return np.zeros(self.contract.obs_size, np.float32)
        return self._padded(
            "obs", i, given, self.contract.agents[i].obs_size, self.contract.obs_size
        )

    def _legal_of(self, i: int, given: Any) -> np.ndarray:
        """Return an agent's mask, padded to [A]; its own actions for None."""
        own, most = self.contract.agents[i].n_actions, self.contract.n_actions
        return self._padded("legal", i, np.ones(own, bool) if given is None else given, own, most)

    def _left(self) -> np.ndarray:
        """Return the mask of an agent that has left: action 0, as in training."""
        mask: np.ndarray = np.arange(self.contract.n_actions) == 0
        return mask

    def _padded(self, what: str, i: int, given: Any, own: int, most: int) -> np.ndarray:
        """Return an array of one agent with zeros up to its padded size."""
        name = f"{what} of agent {text.clean(repr(self.contract.names[i]), 80)}"
        found = to_array(name, given, "biuf", f"{own} numbers")
        if found.shape not in ((own,), (most,)):
            raise UserError(f"{name} has shape {list(found.shape)}, and it takes [{own}]")
        return np.pad(found, (0, most - len(found)))
