"""Writes docs/settings.md from the declarations in tfmix/config.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tfmix import config

HEAD = """# Settings

Made by `make docs` from `tfmix/config.py`; do not edit. Each is a flag of
`main.py` and an argument of `tfmix.train`. The order in which they count:
default, then `flags/env/<word>.flags` for each word of the environment's name,
then `flags/algo/<algo>.flags`, then `flags/env/<word>.<algo>.flags`, then
`--flagfile`, then what was typed.

The defaults of learning and networks are those of PyMARL's `default.yaml` and
`qmix.yaml` (which count the target networks' period in episodes, one update
each); the optimiser is Adam, as in EPyMARL and PyMARL2.
"""


def page() -> str:
    """The whole page, Markdown."""
    lines, group = [HEAD.rstrip()], ""
    for name, field in config.FIELDS.items():
        meta = field.metadata
        if meta["group"] != group:
            group = meta["group"]
            lines += ["", f"## {group}", "", "| setting | default | unit | what |"]
            lines += ["|---|---|---|---|"]
        default = f"`{field.default}`" if field.default not in ("", ()) else ""
        what = meta["help"] + config.bounds(field)
        lines.append(f"| `--{name}` | {default} | {meta['unit']} | {what} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "settings.md").write_text(page())
