"""What the doctor says."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Sequence

from tfmix.envs.check.findings import Finding

WIDTH = 100


@dataclasses.dataclass(frozen=True)
class Report:
    """What was found in an environment; `str` of it is the report to read.

    Attributes:
      name: of the environment.
      version: of its source.
      rows: what was inferred and measured, label by label.
      violations: what breaks a rule.
      warnings: what may be meant so.
      episodes: played.
      env_steps: played.
    """

    name: str
    version: str
    rows: dict[str, str]
    violations: list[Finding]
    warnings: list[Finding]
    episodes: int
    env_steps: int

    @property
    def ok(self) -> bool:
        """Whether nothing breaks a rule."""
        return not self.violations

    def __str__(self) -> str:
        """The report, with a line's width of 100."""
        left = max(map(len, self.rows)) + 2
        lines = [f"{self.name}  ({self.version})", ""]
        lines += [_wrapped(label.ljust(left), text) for label, text in self.rows.items()]
        lines += [*_told("violations", self.violations), *_told("warnings", self.warnings), ""]
        if self.ok:
            played = f"{self.episodes:,} episodes, {self.env_steps:,} env steps"
            lines.append(f"no violations in {played}")
        else:
            lines.append(f"{len(self.violations)} to mend")
        return "\n".join(lines)


def _wrapped(head: str, text: str) -> str:
    indent = " " * len(head)
    return textwrap.fill(
        text, WIDTH, initial_indent=head, subsequent_indent=indent, break_on_hyphens=False
    )


def _told(title: str, findings: Sequence[Finding]) -> list[str]:
    if not findings:
        return []
    lines = ["", title]
    for i, finding in enumerate(findings, 1):
        lines += [
            _wrapped(f"  {i:>2}. ", f"{finding.what} [{finding.where}]"),
            _wrapped("      -> ", finding.advice),
        ]
    return lines
