"""Writes docs/settings.md from the declarations in tfmix/config/schema.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from absl import flags

from tfmix import cli
from tfmix.cli.words import help_of
from tfmix.config.describe import bounds
from tfmix.config.modes import MODES, MODES_OF
from tfmix.config.schema import FIELDS

HEAD = """# Settings

`make docs` writes this page from `tfmix/config/schema.py`. Each setting is a flag of `main.py`
and an argument of `tfmix.train` and `tfmix.benchmark`.

A run uses the default of a setting unless a flagfile or you set it. The order is: default, then
the flagfiles of the environment and the algorithm in `flags/`, then `--flagfile`, then what you
type; see [Command line](command_line.md#which-settings-apply). For example, `flags/env/mpe.flags`
sets a learning rate of 3e-3 and a discount factor of 0.9 for the particle environments.
`--mode=settings` prints the settings that a run would use; `run.json` in the run folder holds those
that it used.

The defaults of learning and networks are those of PyMARL's `default.yaml` and `qmix.yaml`, which
count the target networks' period in episodes, one update each. The optimiser is Adam, as in
EPyMARL and PyMARL2.
"""


def command() -> list[str]:
    """The flags of the command line that are not settings of a run."""
    values = cli.define(flags.FlagValues())
    lines = ["## Flags that are not settings", "", "| flag | what |", "|---|---|"]
    lines.append(f"| `--mode` | What to do: {', '.join(MODES)}. |")
    lines += [
        f"| `--{name}` | {help_of(values[name])} |"
        for name in (*MODES_OF, "compile_cache", "debug")
    ]
    lines.append("| `--flagfile` | Settings from a file, one --name=value per line. |")
    return [*lines, "| `--help`, `--version` | Print all flags, or the versions. |"]


def page() -> str:
    """The whole page, Markdown."""
    lines, group = [HEAD.rstrip(), "", *command()], ""
    for name, field in FIELDS.items():
        meta = field.metadata
        if meta["group"] != group:
            group = meta["group"]
            lines += ["", f"## {group}", "", "| setting | default | unit | what |"]
            lines += ["|---|---|---|---|"]
        value = str(field.default).lower() if field.type == "bool" else field.default
        default = f"`{value}`" if value not in ("", ()) else ""
        what = meta["help"] + bounds(field)
        lines.append(f"| `--{name}` | {default} | {meta['unit']} | {what} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "settings.md").write_text(page())
