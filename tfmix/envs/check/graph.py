"""Checks graph environments: steps one from Python, and measures many compiled."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import tensorflow as tf

from tfmix.config.schema import Config
from tfmix.envs.check.findings import Findings
from tfmix.envs.metrics import names_of
from tfmix.envs.python.adapters.reading import brief
from tfmix.ops import select_actions


class GraphEnvAsPython:
    """Adapts a graph environment to the interface of a Python environment.

    Args:
      env: the graph environment.
    """

    def __init__(self, env: Any):
        self.spec, self.metric_names = env.spec, names_of(env)
        self._reset = tf.function(lambda seed: env.reset(seed, 1))
        self._step = tf.function(env.step)

    def reset(self, seed: int) -> tuple[np.ndarray, ...]:
        """Start an episode."""
        self._seed, self._clock = seed, 0
        self._state, seen = self._reset(tf.constant([seed, 0], tf.int32))
        return tuple(x.numpy()[0] for x in seen[:3])

    def step(self, action: np.ndarray) -> tuple[Any, ...]:
        """Step the environment."""
        self._clock += 1
        seed = tf.constant([self._seed, self._clock], tf.int32)
        self._state, seen = self._step(self._state, tf.constant(action[None], tf.int32), seed)
        metrics = seen.metrics.numpy()[0] if self.metric_names else ()
        return (
            *(x.numpy()[0] for x in seen[:6]),
            dict(zip(self.metric_names, metrics, strict=True)),
        )

    def close(self) -> None:
        """Nothing to close."""


def _compile(env: Any, batch: int) -> Any:
    """Compile a function of a seed that plays a random team in `batch` environments."""
    spec, fold = env.spec, tf.random.experimental.stateless_fold_in

    @tf.function(jit_compile=True)
    def play(seed: tf.Tensor) -> Any:
        state, seen = env.reset(seed, batch)
        q = tf.zeros([batch, spec.n_agents, spec.n_actions])

        def step(t: Any, state: Any, legal: tf.Tensor, total: tf.Tensor) -> Any:
            seeds = tf.random.experimental.stateless_split(fold(seed, t), 2)
            action = select_actions(q, legal, tf.constant(1.0), seeds[0])
            state, seen = env.step(state, action, seeds[1])
            # The sum uses all outputs; unused ones would not be computed.
            total += (
                tf.reduce_sum(seen.obs) + tf.reduce_sum(seen.state) + tf.reduce_sum(seen.reward)
            )
            return t + 1, state, seen.legal, total

        start = (0, state, seen.legal, tf.constant(0.0))
        return tf.while_loop(lambda t, *_: t < spec.episode_limit, step, start)[3]

    return play


def measure_speed(env: Any, config: Config, seconds: float, findings: Findings) -> str:
    """Measure compiled env steps per second of a random team, with 1 and `n_envs` in a batch."""
    rates = []
    for batch in dict.fromkeys((1, config.n_envs)):
        play, turns, spent = _compile(env, batch), 0, 0.0
        try:
            play(tf.constant([config.seed, 0])).numpy()
        except Exception as error:
            findings.add("compile", found=brief(f"{type(error).__name__}: {error}", 200))
            return "not measured, it does not compile"
        while spent < seconds:
            begin = time.perf_counter()
            play(tf.constant([config.seed, 1 + turns])).numpy()
            spent, turns = spent + time.perf_counter() - begin, turns + 1
        rate = turns * batch * env.spec.episode_limit / spent
        rates.append(f"{rate:,.0f} with {batch} in a batch")
    return f"env steps a second, compiled: {', '.join(rates)}"
