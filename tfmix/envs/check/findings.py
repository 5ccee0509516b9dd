"""The rules for environments, and what was found against them."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfmix.envs.python.adapters.rules import ALWAYS, TRAINING_RULES, agent_label, fill

# The rules of training, and those that only this check looks at. {who} are the agents; other
# fields are filled in when a rule is broken for the first time.
RULES = {
    **TRAINING_RULES,
    "raised": ("{text}", "fix the environment; the actions were legal by its masks"),
    "hung": (
        "it {text}",
        "fix what it waits for, or give a greater --env_timeout_seconds; --env_workers=0 checks "
        "it in this process, for a debugger",
    ),
    "died": (
        "its process {text}",
        "fix what ends the process; --env_workers=0 shows everything that it prints",
    ),
    "values": (
        "{what}() returned {found}, not {wanted} values",
        "return obs, state, legal, and of a step also reward, terminated, truncated, info",
    ),
    "kind": ("{what} changed from {old} to {new}", f"keep one shape and number type {ALWAYS}"),
    "padding": (
        "legal actions beyond agent_n_actions for {who}",
        "make the actions illegal that pad a smaller set",
    ),
    "late": (
        "an episode took {found:,} env steps, its limit is {limit:,} ({limit_from})",
        "truncate it at the limit, or give --episode_limit={found}",
    ),
    "endless": (
        "neither terminated nor truncated comes at the limit of {limit:,} env steps "
        "({limit_from}), nor in as many more",
        "truncate at the limit; --episode_limit ends what never ends by itself",
    ),
    "seed": (
        "the same seed and actions gave two different episodes: {found}",
        "use one random generator that reset() seeds, and keep nothing of the last episode",
    ),
    "seeds": (
        "every seed gives the same episode",
        "fine if nothing in the task is random; else draw from a generator that reset() seeds",
    ),
    "cast": (
        "the observation of {who} is {found} in a space of {wanted}; tfmix takes it as it is",
        "declare the space with the number type that is returned",
    ),
    "digits": (
        "the observation of {who} holds {found}: float32 keeps whole numbers up to 16,777,216",
        "scale such numbers, or split them into parts",
    ),
    "compile": (
        "it does not compile: {found}",
        "use TensorFlow with shapes that are known when it is built, and no tf.py_function",
    ),
}
WARNINGS = ("seeds", "cast", "digits")
# Rules that no single step breaks.
ANYWHERE = ("seed", "seeds", "compile")


@dataclasses.dataclass
class Finding:
    """One rule that is broken.

    Attributes:
      rule: its name in `RULES`.
      text: what is wrong, with `{who}` for the agents.
      advice: what to do.
      episode: the first episode that broke it, from 1.
      step: the step of that episode, 0 for its reset.
      who: the agents that it concerns, if any.
      count: how often it was broken.
    """

    rule: str
    text: str
    advice: str
    episode: int
    step: int
    who: list[str] = dataclasses.field(default_factory=list)
    count: int = 0

    def __str__(self) -> str:
        """Return what is wrong, and where it happened first."""
        text = self.text.replace("{who}", listed(self.who))
        if self.rule in ANYWHERE or not self.episode:
            return text
        step = f"step {self.step}" if self.step else "at its reset"
        more = f", {self.count:,} times in all" if self.count > 1 else ""
        return f"{text} [episode {self.episode}, {step}{more}]"


class Findings:
    """Collects findings while episodes are played.

    Attributes:
      episode: the current episode, from 1.
      step: its current step, 0 for its reset.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, Any], Finding] = {}
        self.episode = self.step = 0

    def add(self, rule: str, who: Any = None, **fields: Any) -> None:
        """Record a broken rule; the text of the first time is kept for each rule and `what`."""
        text, advice = fill(RULES, rule, {"who": "{who}", **fields})
        new = Finding(rule, text, advice, self.episode, self.step)
        finding = self._found.setdefault((rule, fields.get("what")), new)
        finding.count += 1
        name = None if who is None else agent_label(who)
        if name is not None and name not in finding.who:
            finding.who.append(name)

    def has(self, *rules: str) -> bool:
        """Return whether one of the rules was broken."""
        return any(rule in rules for rule, _ in self._found)

    def all(self, warnings: bool) -> list[Finding]:
        """Return the warnings, or else the violations, in the order of their first time."""
        return [f for f in self._found.values() if (f.rule in WARNINGS) == warnings]


def listed(names: list[str], most: int = 4) -> str:
    """Return the first `most` names in a line, and the number of the others."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
