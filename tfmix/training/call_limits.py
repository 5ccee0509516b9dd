"""Limits the work of one call of the training loop by the time that calls take."""

from __future__ import annotations

# Target duration of one call of the loop: Ctrl-C and checkpoints wait until it returns. A call is
# limited by its number of collections and of updates, of which one collection may owe thousands.
CALL_SECONDS = 1.0


class CallLimits:
    """Most collections and updates of the next call.

    Attributes:
      collections: the most collections.
      updates: the most updates.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Let the next call do one collection and one update; its duration is then known."""
        self.collections = self.updates = 1

    def adapt(self, seconds: float, owes: bool, full: bool) -> None:
        """Set the limits of the next call, so that it takes about `CALL_SECONDS`.

        Args:
          seconds: the duration of the last call.
          owes: the last call ended at the limit of updates.
          full: more collections would have been possible in the last call.
        """
        if seconds > CALL_SECONDS:
            slower = CALL_SECONDS / seconds
            self.collections = max(int(self.collections * slower), 1)
            self.updates = max(int(self.updates * slower), 1)
        elif seconds < CALL_SECONDS / 2:
            if owes:
                self.updates *= 2
            elif full:
                self.collections *= 2
