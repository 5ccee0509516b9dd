"""Keeps the state of each client's episode between its calls."""

from __future__ import annotations

import collections
import threading
from collections.abc import Hashable

import numpy as np

from tfmix.errors import UserError
from tfmix.utils import text


class Episode:
    """The state of one client's episodes.

    Attributes:
      hidden: [B, N, K], of the B episodes that the client plays in parallel.
      lock: held during a call, so that calls of one client follow one another.
    """

    def __init__(self, hidden: np.ndarray):
        self.hidden, self.lock = hidden, threading.Lock()


class Clients:
    """Holds the episodes of the clients that acted last.

    A client that is forgotten because of the bound gets an error at its next call. It does
    not get actions of an agent without memory.

    Args:
      most: the number of clients that are held. One more forgets the client whose last
        call is the oldest.
    """

    def __init__(self, most: int):
        self.most = most
        self._episodes: collections.OrderedDict[Hashable, Episode] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._episodes)

    def start(self, client: Hashable, episode: Episode) -> None:
        """Hold a client's new episode, in the place of the one it has."""
        with self._lock:
            self._episodes[client] = episode
            self._episodes.move_to_end(client)
            while len(self._episodes) > self.most:
                self._episodes.popitem(last=False)

    def find(self, client: Hashable) -> Episode:
        """Return a client's episode.

        Raises:
          UserError: it has none.
        """
        with self._lock:
            if client not in self._episodes:
                raise UserError(
                    f"client {text.clean(repr(client), 80)} has no episode here: start one first. "
                    f"The {self.most:,} clients that acted last are remembered"
                )
            self._episodes.move_to_end(client)
            return self._episodes[client]

    def end(self, client: Hashable) -> None:
        """Forget a client, if it is held."""
        with self._lock:
            self._episodes.pop(client, None)
