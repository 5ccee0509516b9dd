"""Gets the pictures that a Python environment draws of an episode."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np

from tfmix import envs
from tfmix.config.schema import Config
from tfmix.envs.python.adapters.common import close_quietly, layers_of
from tfmix.errors import UserError
from tfmix.training.collect_python import PythonCollector, env_seed
from tfmix.utils import text
from tfmix.utils.quiet import quiet
from tfmix.watch.record import Record

MOST_PIXELS = 4_000_000  # of a picture


class NoPicturesError(Exception):
    """An environment does not draw; the message is a sentence that says why."""


def _open(collector: PythonCollector, config: Config) -> Any:
    """Return an environment that may draw, with `render_mode="rgb_array"` if it takes that."""
    if not config.env.startswith("custom/") and envs.may_import(config.env):
        asked = (*config.env_arg, 'render_mode="rgb_array"')
        try:
            return envs.make_python(config.env, dataclasses.replace(config, env_arg=asked))
        except UserError:
            pass  # it has no such argument
    if collector.one_more is None:
        raise NoPicturesError("no other environment can be made to draw in")
    return collector.one_more()


def _draw(env: Any) -> np.ndarray:
    """Return a picture [H, W, 3] uint8 of an environment as it is."""
    for layer in layers_of(getattr(env, "source", env)):
        render = getattr(layer, "render", None)
        if not callable(render):
            continue
        try:
            found = render()
        except TypeError:
            found = render(mode="rgb_array")
        pixels = np.asarray(found)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
            raise NoPicturesError(
                f"render() returns {type(found).__name__}, not a picture [H, W, 3] uint8"
            )
        if pixels.size > 3 * MOST_PIXELS:
            raise NoPicturesError(f"render() returns a picture of shape {list(pixels.shape)}")
        return np.ascontiguousarray(pixels[..., :3])
    raise NoPicturesError("it has no render()")


def pictures(
    record: Record, collector: PythonCollector, config: Config, stream: int
) -> list[np.ndarray]:
    """Play an episode again in an environment that draws.

    Args:
      record: the episode.
      collector: played it.
      config: the settings.
      stream: what the seed was used for, a `Stream`.

    Returns:
      T + 1 pictures [H, W, 3] uint8 of one shape.

    Raises:
      NoPicturesError: the environment does not draw, or does not repeat an episode.
    """
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame needs no screen then
    env: Any = None
    sequence = np.random.SeedSequence([record.seed, stream, record.number - 1])
    try:
        with quiet():
            env = _open(collector, config)
            seen, *_ = env.reset(env_seed(sequence))
            found = [_draw(env)]
            for t, action in enumerate(record.episode.action):
                if not np.allclose(seen, record.episode.obs[t], 1e-4, 1e-4):
                    raise NoPicturesError("it does not repeat an episode with the same seed")
                seen, *_ = env.step(action.copy())
                found.append(_draw(env))
    except NoPicturesError:
        raise
    except (Exception, SystemExit) as error:  # of the environment, such as a missing screen
        raise NoPicturesError(text.of_error(error, 200)) from error
    finally:
        if env is not None and not config.env.startswith("custom/"):
            close_quietly(env)
    if len({picture.shape for picture in found}) > 1:
        raise NoPicturesError("its pictures differ in size")
    return found
