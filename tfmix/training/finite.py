"""NaN and infinity: where they are, and what is kept of the episodes that brought them."""

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
    """NaN or infinity in what an environment gave or in an update.

    Attributes:
      batch: the episodes that it came with.
    """

    def __init__(self, text: str, batch: Episode):
        super().__init__(text)
        self.batch = batch


def non_finite_fields(batch: Episode) -> list[str]:
    """The fields of `batch` that hold NaN or infinity on a real step."""
    real = ops.clear_padding(batch)
    return [
        name for name in ("obs", "state", "reward") if not ops.all_finite([getattr(real, name)])
    ]


def non_finite_networks(networks: tf.Module) -> list[str]:
    """The parts of an algorithm's `live` or `target` that have a weight which is not finite."""
    parts = {name: part for name, part in vars(networks).items() if isinstance(part, tf.Module)}
    return [name for name, part in parts.items() if not ops.all_finite(part.variables)]


def dump(path: Path, batch: Episode, about: Mapping[str, Any]) -> None:
    """Writes episodes and single numbers as plain arrays by name, what `np.load` reads.

    An older file is replaced, and of a link the link alone.

    Raises:
      OSError: the file cannot be written.
    """
    with files.create(path) as file:
        arrays: dict[str, Any] = {
            name: np.asarray(x) for name, x in {**batch._asdict(), **about}.items()
        }
        np.savez(file, **arrays)
