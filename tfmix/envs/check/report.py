"""The report of `check_env`."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Sequence

from tfmix.envs.check.findings import Finding

WIDTH = 100


@dataclasses.dataclass(frozen=True)
class Report:
    """Holds what was found in an environment; its `str` is the report to read.

    Attributes:
      name: name of the environment.
      version: version of its source.
      rows: what was inferred and measured, by label.
      violations: broken rules, each once.
      warnings: what may be intended.
      played: how much was played, as text.
    """

    name: str
    version: str
    rows: dict[str, str]
    violations: list[Finding]
    warnings: list[Finding]
    played: str

    @property
    def ok(self) -> bool:
        """Whether no rule is broken."""
        return not self.violations

    def __str__(self) -> str:
        """Return the report in lines of at most 100 letters."""
        left = max(map(len, self.rows)) + 2
        lines = [f"{self.name}  ({self.version})", ""]
        lines += [_wrapped(label.ljust(left), text) for label, text in self.rows.items()]
        lines += [
            *_list_findings("violations", self.violations),
            *_list_findings("warnings", self.warnings),
            "",
        ]
        count = len(self.violations)
        found = "nothing wrong" if self.ok else f"{count} violation{'s' * (count > 1)}"
        return "\n".join([*lines, f"{found} in {self.played}"])


def _wrapped(head: str, text: str) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_on_hyphens=False,
    )


def _list_findings(title: str, findings: Sequence[Finding]) -> list[str]:
    lines = ["", title] if findings else []
    for i, finding in enumerate(findings, 1):
        lines.append(_wrapped(f"  {i}. ", str(finding)))
        lines.append(_wrapped("     -> ", finding.advice))
    return lines
