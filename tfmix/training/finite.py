"""Finds NaN and infinity, and saves the episodes in which they were found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfmix import ops
from tfmix.errors import RunFailedError
from tfmix.types import Episode
from tfmix.utils import files


class NotFiniteError(RunFailedError):
    """NaN or infinity in an environment's episodes or in an update.

    Attributes:
      batch: the episodes with it, or those of the update.
    """

    def __init__(self, text: str, batch: Episode):
        super().__init__(text)
        self.batch = batch


def non_finite_fields(batch: Episode) -> list[str]:
    """Return the fields of `batch` that hold NaN or infinity on a real step."""
    real = ops.clear_padding(batch)
    return [
        name for name in ("obs", "state", "reward") if not ops.all_finite([getattr(real, name)])
    ]


def non_finite_networks(networks: tf.Module) -> list[str]:
    """Return the networks of an algorithm's `live` or `target` that have a non-finite weight."""
    modules = {name: net for name, net in vars(networks).items() if isinstance(net, tf.Module)}
    return [name for name, net in modules.items() if not ops.all_finite(net.variables)]


def dump(path: Path, batch: Episode, about: Mapping[str, Any]) -> None:
    """Write episodes and single numbers as arrays by name, for `np.load`.

    An older file is replaced. If it is a link, the link is replaced and not its target.

    Args:
      path: the file.
      batch: the episodes.
      about: the numbers by name.

    Raises:
      OSError: the file cannot be written.
    """
    with files.create(path) as file:
        arrays: dict[str, Any] = {
            name: np.asarray(x) for name, x in {**batch._asdict(), **about}.items()
        }
        np.savez(file, **arrays)
