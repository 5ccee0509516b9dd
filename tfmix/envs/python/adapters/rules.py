"""The rules for environments: what is wrong when one is broken, and what to do.

Training and `check_env` share them. Training stops at the first broken rule of
`TRAINING_RULES`; `check_env` records it, replaces the value by a harmless one and
plays on.
"""

from __future__ import annotations

from typing import Any

ALWAYS = "at every step and in every episode"
# A broken rule would give wrong numbers. {who} is an agent; other fields are filled in.
TRAINING_RULES = {
    "dict": (
        "the {what} are {found}, not a dict with an entry for each agent",
        "return a dict by agent (Gymnasium's Tuple and Dict spaces also take a list in their "
        "order)",
    ),
    "empty": ("env.agents is empty after reset()", "list the agents that act first in it"),
    "stranger": (
        "env.agents holds {who}, which is not in possible_agents",
        "list every agent that can ever act in possible_agents",
    ),
    "finite": (
        "{what} is NaN or infinite{found}",
        "find the division or logarithm that it comes from: one such number spoils the networks",
    ),
    "wide": (
        "{what} holds {found}, and float32 goes to 3.4e+38",
        "scale it: networks learn best from numbers near 1",
    ),
    "shape": (
        "{what} has shape {found}, not {wanted}",
        "return what was promised, padded and masked if there is less",
    ),
    "space": (
        "the {what} space of {who} changed from {old} to {new}",
        "keep the spaces: pad them, and mask what is not there",
    ),
    "outside": (
        "the observation of {who} is not in its space: {wrong}",
        "return what observation_space says, or say there what is returned",
    ),
    "unseen": (
        "no observation for {who} in env.agents",
        "give every agent one that can act, and all agents one after a truncation",
    ),
    "flag": (
        "{what} of {who} is {found}, not True or False",
        "give one True or False for every agent that acted",
    ),
    "vanished": (
        "{who} left env.agents without being terminated or truncated",
        "set one of the two to True in the agent's last step",
    ),
    "illegal": (
        "no legal action for {who}",
        "leave every agent one action, a no-op if it can do nothing",
    ),
    "mask": (
        "the action mask of {who} is {found}, not {size} values of 0 and 1",
        "give one value for each action of the agent: 1 if it is legal, 0 if not",
    ),
    "reward": ("{what} is {found}, not one number", f"return {{wanted}} {ALWAYS}"),
    "unpaid": (
        "no reward for {who} after acting",
        "give every agent that acted a reward, 0 if there is none",
    ),
    "unknown": (
        "the rewards have an entry for {who}, which is not an agent",
        "name the agents in the rewards as in possible_agents",
    ),
    "unlike": (
        "--team_reward=one, and the agents receive {found}",
        "choose sum or mean (--team_reward), or give all agents the same",
    ),
}


def fill(rules: dict[str, tuple[str, str]], rule: str, fields: dict[str, Any]) -> tuple[str, str]:
    """Return the text and the advice of a rule with the fields filled in."""
    known = {"found": "", **fields}
    text, advice = rules[rule]
    return text.format(**known), advice.format(**known)


def agent_label(agent: Any) -> str:
    """Return an agent's name for messages."""
    return agent if isinstance(agent, str) else f"agent {agent}"
