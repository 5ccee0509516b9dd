"""The results of a benchmark as a LaTeX table, for \\usepackage{booktabs}."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from tfmix.utils import text

# Column of `table.columns` and its heading. Text is to the left, numbers are to the right.
HEADINGS = {
    "env": "Environment",
    "algo": "Algorithm",
    "seeds": "Seeds",
    "env_steps": "Env steps",
    "last": "Last return",
    "best": "Best return",
}
ALIGNMENT = "llrrrr"
_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{special: "\\" + special for special in "&%$#_{}"},
}


def escape(value: str) -> str:
    """Return text that LaTeX prints as it is, on one line."""
    return "".join(_ESCAPES.get(character, character) for character in text.clean(value))


def as_latex(command: str, rows: Iterable[Mapping[str, str]]) -> str:
    """Return the text of table.tex: a tabular with a row for each group of runs.

    Args:
      command: the command that made the table, for a comment.
      rows: the cells of each row by column.
    """
    lines = [
        f"% {text.clean(command, len(command))}",
        r"% Needs \usepackage{booktabs}. Figures: median over seeds [lowest, highest].",
        rf"\begin{{tabular}}{{{ALIGNMENT}}}",
        r"\toprule",
        " & ".join(HEADINGS.values()) + r" \\",
        r"\midrule",
    ]
    before = None
    for row in rows:
        if before not in (None, row["env"]):
            lines.append(r"\addlinespace")
        before = row["env"]
        lines.append(" & ".join(_cell(name, row[name]) for name in HEADINGS) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _cell(name: str, value: str) -> str:
    """Return a cell: a range in brackets, a minus as mathematics."""
    if name in ("env", "algo", "seeds"):
        return escape(value)
    if value == "-":
        return "--"
    return re.sub(r"-(?=\d)", "$-$", re.sub(r" \((.*) to (.*)\)", r" [\1, \2]", value))
