"""QTRAN's conditions, WQMIX's and QPLEX's weights if the critic is exact: are they enough?

  python benchmarks/exact_critic.py --games=40
  python benchmarks/exact_critic.py --shape=6x6x6 --form=alt:10:0.001,base:30

Random payoffs, as in random_games.py. The payoff itself is the critic, every
joint action counts equally often, and the agents' tables are fitted to the
expected loss by Adam, whose learning rate goes linearly to 0. Prints the optima
found. A form is base:<weight of L_nopt>, alt:<weight of L_nopt-min>:<slack>,
cw:<alpha> or ow:<alpha>, whose mixer has 16 units, or qplex:<alpha>, whose lambda is
a number for each agent and joint action.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from benchmarks import random_games  # noqa: E402  (starts TensorFlow)

tf = random_games.tf
FORMS = (
    "base:0.1,base:1,base:10,base:30,alt:1:1,alt:10:1,alt:10:0.01,alt:10:0.001,"
    "cw:0.1,cw:0.001,ow:0.1,ow:0.001,qplex:1,qplex:0.1,qplex:0.01"
)
UNITS = 16  # of the mixer
RATES = {"base": 0.1, "alt": 0.1, "cw": 0.01, "ow": 0.01, "qplex": 0.03}


class Tables(tf.Module):
    """The agents' values and a number or a mixer for each of G games.

    Args:
      payoff: [G, *shape].
      kind: `cw` and `ow` have a monotonic mixer without a state; the others a sum
        and V, `qplex` lambda too.
      seed: draws what the fit starts from.
    """

    def __init__(self, payoff: np.ndarray, kind: str, seed: int = 0):
        super().__init__()
        random = np.random.default_rng(seed)
        games, *shape = payoff.shape

        def drawn(*size: int) -> tf.Variable:
            return tf.Variable(0.1 * random.normal(size=(games, *size)), dtype=tf.float32)

        self.shape, self.mixes = shape, kind in ("cw", "ow")
        self.joint = np.asarray(list(itertools.product(*map(range, shape))))  # [M, N]
        self.payoff = tf.constant(payoff.reshape(games, -1), tf.float32)  # [G, M]
        self.q = [drawn(size) for size in shape]
        self.value = drawn(1)
        if self.mixes:
            self.first, self.bias = drawn(len(shape), UNITS), drawn(UNITS)
            self.last = drawn(UNITS)
        if kind == "qplex":
            self.weight = drawn(len(self.joint), len(shape))

    def taken(self) -> tf.Tensor:
        """Return each agent's value of its action in every joint action, [G, M, N]."""
        pairs = zip(self.q, self.joint.T, strict=True)
        return tf.stack([tf.gather(q, action, axis=1) for q, action in pairs], -1)

    def at_all(self) -> tf.Tensor:
        """Return Q' + V, or Q_tot of a mixer, at every joint action, [G, M]."""
        own = self.taken()
        if not self.mixes:
            return tf.reduce_sum(own, -1) + self.value
        code = tf.einsum("gmn,gnu->gmu", own, tf.abs(self.first)) + self.bias[:, None]
        return tf.einsum("gmu,gu->gm", tf.nn.elu(code), tf.abs(self.last)) + self.value

    def greedy(self) -> tf.Tensor:
        """Return the number of each game's greedy joint action, [G]."""
        best = [tf.argmax(q, -1) for q in self.q]
        return sum(a * int(np.prod(self.shape[i + 1 :])) for i, a in enumerate(best))


def qplex_loss(tables: Tables, alpha: float) -> tf.Tensor:
    """Compute QPLEX's expected loss with `duplex_alpha`, summed over games."""
    best = tf.stack([tf.reduce_max(q, -1) for q in tables.q], -1)[:, None]  # [G, 1, N]
    advantage = tf.stop_gradient(tables.taken() - best)
    own = tables.at_all()
    values = own + tf.reduce_sum((tf.abs(tables.weight) - 1.0) * advantage, -1)
    bound = tf.reduce_max(own, -1, keepdims=True)
    full = tf.reduce_all(advantage == 0, -1) | (tables.payoff > bound)
    agents = (tf.where(full, 1.0, alpha) - 1.0) * (own - tf.stop_gradient(own))
    return tf.reduce_sum(tf.reduce_mean((values + agents - tables.payoff) ** 2, -1))


def loss_of(tables: Tables, kind: str, weight: float, slack: float = 0.0) -> tf.Tensor:
    """Compute the expected loss without L_td, summed over games."""
    if kind == "qplex":
        return qplex_loss(tables, weight)
    values, payoff, greedy = tables.at_all(), tables.payoff, tables.greedy()
    gap = values - payoff
    if kind in ("cw", "ow"):
        bound = tf.gather(payoff, greedy, batch_dims=1)[:, None]
        is_greedy = tf.range(payoff.shape[1], dtype=tf.int64)[None] == greedy[:, None]
        full = (gap < 0) if kind == "ow" else is_greedy | (payoff > bound)
        return tf.reduce_sum(tf.reduce_mean(tf.where(full, 1.0, weight) * gap**2, -1))
    loss = tf.reduce_sum(tf.gather(gap, greedy, batch_dims=1) ** 2)
    if kind == "base":
        return loss + weight * tf.reduce_sum(tf.reduce_mean(tf.minimum(gap, 0.0) ** 2, -1))
    choosing = [i for i, size in enumerate(tables.shape) if size > 1]
    for i in choosing:
        least = tf.reduce_min(tf.reshape(gap, [-1, *tables.shape]), i + 1)
        error = tf.minimum(least, 0.0) ** 2 + slack * tf.maximum(least, 0.0) ** 2
        mean = tf.reduce_mean(tf.reshape(error, [len(gap), -1]), -1)
        loss += weight * tf.reduce_sum(mean) / len(choosing)
    return loss


def optima(payoff: np.ndarray, form: str, steps: int) -> int:
    """Fit all games, and count those whose greedy joint action is the best."""
    kind, *numbers = form.split(":")
    tables, rate = Tables(payoff, kind), RATES[kind]
    variables = tables.trainable_variables
    moments = [tf.Variable(tf.zeros_like(v)) for v in (*variables, *variables)]

    @tf.function(jit_compile=True)
    def update(t: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = loss_of(tables, kind, *map(float, numbers))
        slopes = tape.gradient(loss, variables)
        first, second = moments[: len(variables)], moments[len(variables) :]
        for v, g, m, s in zip(variables, slopes, first, second, strict=True):
            m.assign(0.9 * m + 0.1 * g)
            s.assign(0.999 * s + 0.001 * g**2)
            root = tf.sqrt(s / (1 - 0.999**t)) + 1e-8
            v.assign_sub(rate * (1 - t / steps) * m / (1 - 0.9**t) / root)

    for t in range(1, steps + 1):
        update(tf.constant(float(t)))
    reached = tf.gather(tables.payoff, tables.greedy(), batch_dims=1)
    return int(tf.reduce_sum(tf.cast(reached >= tf.reduce_max(tables.payoff, -1), tf.int32)))


def main() -> None:
    """Print one row per form."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--shape", default="3x3,4x4,3x3x3,4x4x4,2x2x2x2x2,6x6x6")
    arguments.add_argument("--form", default=FORMS)
    arguments.add_argument("--games", type=int, default=40, help="of each shape and kind")
    arguments.add_argument("--steps", type=int, default=2000)
    asked = arguments.parse_args()
    random, drawn = np.random.default_rng(0), {}
    for shape in asked.shape.split(","):
        sizes = random_games.sizes(shape)
        drawn[shape] = [
            np.stack([random_games.table(sizes, lone, random) for _ in range(asked.games)])
            for lone in (False, True)
        ]
    print(f"Optima found of {asked.games} ordinary payoffs, and of as many with a lone optimum:\n")
    print(f"| form | {' | '.join(drawn)} |\n{'|---' * (len(drawn) + 1)}|")
    for form in asked.form.split(","):
        cells = [
            ", ".join(str(optima(p, form, asked.steps)) for p in games) for games in drawn.values()
        ]
        print(f"| {form} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
