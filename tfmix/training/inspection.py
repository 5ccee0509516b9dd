"""Holds what the inspector finds: tags of TensorBoard with their descriptions, and values."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfmix.algos.base import About, Algorithm

# Most agents with tags, and most actions of each.
MOST_AGENTS, MOST_ACTIONS = 16, 32
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

# Every tag of the inspector but those of `Algorithm.inspected`. A name in brackets is a number.
TAGS: dict[str, About] = {
    "team/value": About(
        "Value of the greedy joint action: Q_tot, QTRAN's Q_jt, or IQL's mean Q_i; mean over the "
        "greedy episodes' steps",
        "discounted reward",
    ),
    "team/return": About(
        "Discounted return that followed those steps until the episode's end", "discounted reward"
    ),
    "team/overestimation": About(
        "team/value less the discounted return that followed; if a time limit cut the episode, "
        "the value of its last state is part of that return",
        "discounted reward",
    ),
    "team/igm/<value>": About(
        "Share of the greedy episodes' steps at which the greedy joint action is also the best by "
        "this joint value",
        "0 to 1",
    ),
    "team_greedy/utility": About(
        "Utility Q_i of the agent's greedy action, which is its greatest; mean over the greedy "
        "episodes' steps",
        "discounted reward",
        ("agent",),
    ),
    "team_greedy/advantage": About(
        "Utility of the greedy action less the mean utility of the legal actions; mean over the "
        "greedy episodes' steps",
        "discounted reward",
        ("agent",),
    ),
    "team_greedy/slope": About(
        "dQ_tot/dQ_i, by automatic differentiation; mean over the greedy episodes' steps",
        axes=("agent",),
    ),
    "team_greedy/slope_least": About(
        "The least dQ_tot/dQ_i of the greedy episodes' steps", axes=("agent",)
    ),
    "team_replay/chosen": About(
        "Utility Q_i of the action that the agent took, with exploration; mean over the replay "
        "batch's steps",
        "discounted reward",
        ("agent",),
    ),
    "team_replay/greatest": About(
        "Utility Q_i of the agent's best legal action; mean over the replay batch's steps",
        "discounted reward",
        ("agent",),
    ),
    "team_replay/advantage": About(
        "Utility of the action taken less the mean utility of the legal actions; mean over the "
        "replay batch's steps",
        "discounted reward",
        ("agent",),
    ),
    "team_actions": About(
        "Share of the greedy episodes' steps at which the agent takes the action",
        "0 to 1",
        ("agent", "action"),
    ),
    "td_error/quantile": About(
        "Quantile of the TD error, value less target, over the replay batch's steps; in percent",
        "discounted reward",
    ),
    "td_error/mean_size": About(
        "Mean of the TD error's absolute value over the replay batch's steps", "discounted reward"
    ),
    "weights": About("Weights of a network"),
    "gradients": About("Gradient of the replay batch's loss by a network's weights, not clipped"),
}


@dataclasses.dataclass
class Inspection:
    """What was found at an evaluation, by tag.

    Attributes:
      scalars: numbers and their descriptions.
      histograms: arrays and their descriptions.
      tables: [rows, columns] and what they are.
    """

    scalars: dict[str, tuple[float, str]] = dataclasses.field(default_factory=dict)
    histograms: dict[str, tuple[np.ndarray, str]] = dataclasses.field(default_factory=dict)
    tables: dict[str, tuple[np.ndarray, About]] = dataclasses.field(default_factory=dict)

    def add(self, tag: str, about: About, value: Any) -> None:
        """Add a number, or a series with one number for each agent, head or action."""
        value = np.asarray(value)
        if value.ndim == 2:
            self.tables[tag] = value, about
        elif value.ndim == 1:
            for number, one in enumerate(value[:MOST_AGENTS]):
                self.scalars[f"{tag}/{number}"] = float(one), about.text
        else:
            self.scalars[tag] = float(value), about.text


def add_greedy(found: Inspection, algorithm: Algorithm, numbers: dict[str, np.ndarray]) -> None:
    """Add what the inspector's `of_greedy` found."""
    mask = numbers["mask"] > 0
    _, greatest, advantage = (x[mask] for x in utilities(numbers))  # [steps, N]
    series = {"utility": greatest.mean(0), "advantage": advantage.mean(0)}
    if "slope" in numbers:
        slope = numbers["slope"][mask]
        series |= {"slope": slope.mean(0), "slope_least": slope.min(0)}
    for name, value in series.items():
        found.add(f"team_greedy/{name}", TAGS[f"team_greedy/{name}"], value)
    for agent, taken in enumerate(numbers["action"][mask].T[:MOST_AGENTS]):
        own = algorithm.spec.agent_n_actions[agent]
        shares = np.bincount(taken, minlength=own) / taken.size
        for action, share in enumerate(shares[: min(own, MOST_ACTIONS)]):
            found.add(f"team_actions/{agent}/{action}", TAGS["team_actions"], share)
    for name in algorithm.judges:
        found.add(
            f"team/igm/{tag_name(name)}", TAGS["team/igm/<value>"], numbers[f"igm_{name}"].mean()
        )
    value = numbers["value"].astype(np.float64)
    gamma, episodes = algorithm.config.gamma, (numbers["reward"], numbers["terminated"])
    plain = returns_to_come(*episodes, mask, np.zeros_like(value), gamma)
    whole = returns_to_come(*episodes, mask, value, gamma)
    found.add("team/value", TAGS["team/value"], value[:, :-1][mask].mean())
    found.add("team/return", TAGS["team/return"], plain[mask].mean())
    over = (value[:, :-1] - whole)[mask].mean()
    found.add("team/overestimation", TAGS["team/overestimation"], over)


def add_batch(
    found: Inspection,
    algorithm: Algorithm,
    numbers: dict[str, np.ndarray],
    own: dict[str, np.ndarray],
) -> None:
    """Add what the inspector's `of_batch` found."""
    mask = numbers["mask"] > 0
    for name, value in zip(("chosen", "greatest", "advantage"), utilities(numbers), strict=True):
        tag = f"team_replay/{name}"
        found.add(tag, TAGS[tag], value[mask].mean(0))
    errors = numbers["td_error"][mask].astype(np.float64)
    for share, value in zip(QUANTILES, np.quantile(errors, QUANTILES), strict=True):
        found.add(f"td_error/quantile/{share * 100:02.0f}", TAGS["td_error/quantile"], value)
    found.add("td_error/mean_size", TAGS["td_error/mean_size"], np.abs(errors).mean())
    for tag, about in algorithm.inspected.items():
        found.add(tag, about, own[tag])


def utilities(numbers: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return utilities of the actions taken, the greatest legal ones, and advantages, [B, T, N].

    The advantage is that of the action taken over the mean of the legal actions. All three are
    0 if nothing is legal.

    Args:
      numbers: `q` and `legal` [B, T, N, A], `action` [B, T, N].
    """
    q, legal = numbers["q"].astype(np.float64), numbers["legal"]
    some = legal.any(-1)
    chosen = np.take_along_axis(q, numbers["action"][..., None], -1)[..., 0]
    greatest = np.where(legal, q, -np.inf).max(-1)
    mean = np.where(legal, q, 0.0).sum(-1) / np.maximum(legal.sum(-1), 1)
    found = (np.where(some, x, 0.0) for x in (chosen, greatest, chosen - mean))
    return next(found), next(found), next(found)


def scalar_tags(algorithm: Algorithm) -> list[str]:
    """Return tags of scalars, those of the first agent, action and head alone."""
    found = [f"team/igm/{tag_name(name)}" for name in algorithm.judges]
    found += [f"td_error/quantile/{share * 100:02.0f}" for share in QUANTILES]
    joint = algorithm.has_mixer and not algorithm.value_per_agent
    for tag, about in {**TAGS, **algorithm.inspected}.items():
        left_out = tag in ("team/igm/<value>", "td_error/quantile", "weights", "gradients")
        left_out |= "slope" in tag and not joint
        left_out |= len(about.axes) == 2 and tag != "team_actions"
        if not left_out:
            found.append(tag + "/0" * len(about.axes))
    return found


def returns_to_come(
    reward: np.ndarray,
    terminated: np.ndarray,
    mask: np.ndarray,
    value: np.ndarray,
    gamma: float,
) -> np.ndarray:
    """Return the discounted rewards from each step on, [B, T] float64.

    Args:
      reward: [B, T].
      terminated: [B, T], 1 at a step that ends the episode.
      mask: [B, T] bool, True on real steps.
      value: [B, T+1], the value of the state after the last step, if that step does not
        terminate.
      gamma: the discount factor.
    """
    found = np.zeros(value.shape)
    goes_on = np.concatenate([mask[:, 1:], np.zeros_like(mask[:, :1])], 1)
    for t in reversed(range(reward.shape[1])):
        after = np.where(goes_on[:, t], found[:, t + 1], (1 - terminated[:, t]) * value[:, t + 1])
        found[:, t] = np.where(mask[:, t], reward[:, t] + gamma * after, 0.0)
    return found[:, :-1]


def tag_name(value: str) -> str:
    """Return the name of a value of `Algorithm.team_values` in a tag."""
    return {"Q*": "q_star"}.get(value, value.lower())
