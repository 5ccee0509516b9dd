"""Arranges TensorBoard's custom scalars: one chart for tags that are read together."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

# A category's charts: their title with the unit, and what their tags match from the start.
CHARTS: dict[str, dict[str, str]] = {
    "return": {
        "greedy return, and the best one until then (reward)": r"return/greedy(_best)?$",
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
    "team": {
        "value and discounted return of greedy episodes (reward)": r"team/(value|return)$",
        "overestimation (reward)": r"team/overestimation$",
        "the greedy joint action is the best by the joint value (share of steps)": r"team/igm/",
        "mean absolute TD error (reward)": r"td_error/mean_size$",
    },
    "agents": {
        "utility of the greedy action (reward)": r"team_greedy/utility/",
        "advantage of the greedy action (reward)": r"team_greedy/advantage/",
        "dQ_tot/dQ_i, mean": r"team_greedy/slope/",
        "dQ_tot/dQ_i, least": r"team_greedy/slope_least/",
        "utility of the action taken in the replay (reward)": r"team_replay/chosen/",
        "greatest utility in the replay (reward)": r"team_replay/greatest/",
        "advantage of the action taken in the replay (reward)": r"team_replay/advantage/",
        "actions of greedy episodes (share of steps)": r"team_actions/",
    },
    "algorithm": {
        "QTRAN: conditions hold within 0.1 (share of steps)": r"qtran/holds",
        "QTRAN: losses of the replay batch (reward²)": r"qtran/loss",
        "WQMIX: joint actions with weight 1 (share)": r"wqmix/weight_is_1$",
        "QPLEX: lambda of each agent, mean": r"qplex/lambda/",
        "QPLEX: lambda of each agent, least and greatest": r"qplex/lambda_(least|greatest)/",
        "Qatten: weight of each head": r"qatten/head_weight/",
    },
    "run": {
        "speed (env steps/s)": r"run/env_steps_per_second$",
        "epsilon (0 to 1)": r"run/epsilon$",
        "learning rate": r"run/learning_rate$",
        "episodes, updates and replay (count)": r"run/(episodes|updates|buffer_episodes)$",
        "time of training (seconds)": r"run/seconds$",
        "workers that were replaced (count)": r"run/worker_restarts$",
    },
}
# Charts of a band: their category, title, and the tags of the line and of the band's ends.
BANDS = (
    (
        "return",
        "quartiles of the greedy return over episodes (reward)",
        ("return/greedy_q50", "return/greedy_q25", "return/greedy_q75"),
    ),
    (
        "team",
        "quartiles of the TD error (reward)",
        ("td_error/quantile/50", "td_error/quantile/25", "td_error/quantile/75"),
    ),
    (
        "team",
        "quantiles 5 and 95 of the TD error (reward)",
        ("td_error/quantile/50", "td_error/quantile/05", "td_error/quantile/95"),
    ),
)
_TRAIN_OR_GREEDY = re.compile(r"episode/(?:train|greedy)_(.+)")


def layout(tags: Iterable[str]) -> Any:
    """Arrange tags as charts, by category.

    A chart that none of the tags fits is left out. A metric of the environment is one chart of
    its training and its greedy value. Any other tag without a chart is a chart alone, in the
    category that its first part names.

    Args:
      tags: TensorBoard's tags of a run's scalars.

    Returns:
      the `Layout` of TensorBoard's plugin custom_scalar.
    """
    from tensorboard.plugins.custom_scalar import layout_pb2

    tags = list(tags)
    charts = {category: _fitting(patterns, tags) for category, patterns in CHARTS.items()}
    placed = [p for patterns in CHARTS.values() for p in patterns.values()]
    bands = [band for band in BANDS if set(band[2]) <= set(tags)]
    in_bands = {tag for _, _, own in bands for tag in own}
    for tag in tags:
        if any(re.match(p, tag) for p in placed) or tag in in_bands:
            continue
        category, title, pattern = _alone(tag)
        charts.setdefault(category, {})[title] = pattern
    arranged = layout_pb2.Layout()
    for category, patterns in charts.items():
        drawn = [_lines(layout_pb2, title, pattern) for title, pattern in patterns.items()]
        own = [_band(layout_pb2, title, *ends) for name, title, ends in bands if name == category]
        drawn[1:1] = own
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
    category, _, title = tag.partition("/")
    return ("episodes" if category == "episode" else category), title, f"{re.escape(tag)}$"


def _lines(layout_pb2: Any, title: str, pattern: str) -> Any:
    """Return a chart of all tags that fit a pattern."""
    return layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=[pattern]))


def _band(layout_pb2: Any, title: str, value: str, lower: str, upper: str) -> Any:
    """Return a chart of a tag with a band between two others."""
    series = layout_pb2.MarginChartContent.Series(value=value, lower=lower, upper=upper)
    return layout_pb2.Chart(title=title, margin=layout_pb2.MarginChartContent(series=[series]))
