"""Arranges TensorBoard's custom scalars: one chart for tags that are read together."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_I = "(inspect/)?"
# A category's charts: their title with the unit, and what their tags match from the start. The
# inspector's tags have one number or two at their end: agent, or agent and action.
CHARTS: dict[str, dict[str, str]] = {
    "return": {
        "greedy return, and the best so far (reward)": r"return/greedy(_best)?$",
        "training return, with exploration (reward)": r"return/train$",
        "standard deviation of the greedy return (reward)": r"return/greedy_std$",
    },
    "episodes": {
        "length of episodes (env steps)": r"episode/(train|greedy)_length$",
    },
    "learner": {
        "loss and its parts (reward²)": r"learner/loss",
        "Q_tot and its target (reward)": r"learner/(q_tot|target)$",
        "gradient norm before clipping": r"learner/grad_norm$",
        "mean weight of a joint action (0 to 1)": r"learner/weight$",
    },
    "run": {
        "speed (env steps/s)": r"run/env_steps_per_second$",
        "epsilon (0 to 1)": r"run/epsilon$",
        "learning rate": r"run/learning_rate$",
        "episodes, updates and replay (count)": r"run/(episodes|updates|buffer_episodes)$",
        "time of training (seconds)": r"run/seconds$",
        "workers that were replaced (count)": r"run/worker_restarts$",
    },
    "inspector: team": {
        "value, and the return that followed (discounted reward)": rf"{_I}team/(value|return)$",
        "overestimation: value less return (discounted reward)": rf"{_I}team/overestimation$",
        "greedy joint action is the best (share of steps)": rf"{_I}igm/",
        "quantiles of the TD error (discounted reward)": rf"{_I}td_error/quantile/",
        "mean size of the TD error (discounted reward)": rf"{_I}td_error/mean_size$",
    },
    "inspector: agents": {
        "greedy: utility (discounted reward)": rf"{_I}agents_greedy/utility/",
        "greedy: advantage of the action (discounted reward)": rf"{_I}agents_greedy/advantage/",
        "greedy: dQ_tot/dQ_i, mean": rf"{_I}agents_greedy/slope/",
        "greedy: dQ_tot/dQ_i, least": rf"{_I}agents_greedy/slope_least/",
        "replay: utility of the action taken (discounted reward)": rf"{_I}agents_replay/chosen/",
        "replay: greatest utility (discounted reward)": rf"{_I}agents_replay/greatest/",
        "replay: advantage of the action (discounted reward)": rf"{_I}agents_replay/advantage/",
    },
    "inspector: actions": {},
    "inspector: algorithm": {
        "Qatten: weight of each head": rf"{_I}qatten/head_weight/",
        "QPLEX: lambda of each agent, mean": rf"{_I}qplex/lambda/",
        "QPLEX: least lambda of each agent": rf"{_I}qplex/lambda_least/",
        "QPLEX: greatest lambda of each agent": rf"{_I}qplex/lambda_greatest/",
        "QTRAN: losses (reward²)": rf"{_I}qtran/loss_",
        "QTRAN: conditions that hold (share of steps)": rf"{_I}qtran/holds_",
        "WQMIX: weights that are 1 (share of joint actions)": rf"{_I}wqmix/weight_is_1$",
    },
}
QUARTILES = "quartiles of the greedy return over episodes (reward)"
QUARTILE_TAGS = ("return/greedy_q50", "return/greedy_q25", "return/greedy_q75")
_TRAIN_OR_GREEDY = re.compile(r"episode/(?:train|greedy)_(.+)")
_ACTIONS = re.compile(rf"{_I}actions/(\d+)/")


def layout(tags: Iterable[str]) -> Any:
    """Arrange tags as charts, by category.

    A chart that none of the tags fits is left out. A metric of the environment is one chart of
    its training and its greedy value, the shares of an agent's actions are one chart, and any
    other tag without a chart is a chart alone.

    Args:
      tags: TensorBoard's tags of a run's scalars.

    Returns:
      the `Layout` of TensorBoard's plugin custom_scalar.
    """
    from tensorboard.plugins.custom_scalar import layout_pb2

    tags = list(tags)
    charts = {category: _fitting(patterns, tags) for category, patterns in CHARTS.items()}
    placed = [p for patterns in CHARTS.values() for p in patterns.values()]
    quartiles = set(QUARTILE_TAGS) <= set(tags)
    for tag in tags:
        if any(re.match(p, tag) for p in placed) or (quartiles and tag in QUARTILE_TAGS):
            continue
        category, title, pattern = _alone(tag)
        charts.setdefault(category, {})[title] = pattern
    arranged = layout_pb2.Layout()
    for category, patterns in charts.items():
        drawn = [_lines(layout_pb2, title, pattern) for title, pattern in patterns.items()]
        if category == "return" and quartiles:
            drawn.insert(1, _band(layout_pb2, QUARTILES, *QUARTILE_TAGS))
        if drawn:
            arranged.category.append(layout_pb2.Category(title=category, chart=drawn))
    return arranged


def _fitting(patterns: dict[str, str], tags: list[str]) -> dict[str, str]:
    """Return the charts that at least one of the tags fits."""
    return {
        title: pattern
        for title, pattern in patterns.items()
        if any(re.match(pattern, tag) for tag in tags)
    }


def _alone(tag: str) -> tuple[str, str, str]:
    """Return category, title and pattern of a tag that no chart names."""
    if match := _TRAIN_OR_GREEDY.fullmatch(tag):
        return "episodes", match[1], f"episode/(train|greedy)_{re.escape(match[1])}$"
    if match := _ACTIONS.match(tag):
        title = f"actions of agent {match[2]} (share of steps)"
        return "inspector: actions", title, f"{_I}actions/{match[2]}/"
    category, _, title = tag.partition("/")
    category = {"episode": "episodes", "inspect": "inspector: algorithm"}.get(category, category)
    return category, title, f"{re.escape(tag)}$"


def _lines(layout_pb2: Any, title: str, pattern: str) -> Any:
    """Return a chart of all tags that fit a pattern."""
    return layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=[pattern]))


def _band(layout_pb2: Any, title: str, value: str, lower: str, upper: str) -> Any:
    """Return a chart of a tag with a band between two others."""
    series = layout_pb2.MarginChartContent.Series(value=value, lower=lower, upper=upper)
    return layout_pb2.Chart(title=title, margin=layout_pb2.MarginChartContent(series=[series]))
