"""Writes docs/settings.md from the declarations in tfmix/config/schema.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from absl import flags

from tfmix import cli
from tfmix.config.describe import bounds
from tfmix.config.schema import FIELDS, MODES

HEAD = """# Settings

`make docs` writes this page from `tfmix/config/schema.py`. Each setting is a flag of `main.py`
and an argument of `tfmix.train` and `tfmix.benchmark`.

A run uses the default of a setting unless a flagfile or you set it. The order is: default, then
the flagfiles of the environment and the algorithm in `flags/`, then `--flagfile`, then what you
type; see [Command line](command_line.md#which-settings-count). For example, `flags/env/mpe.flags`
sets a learning rate of 3e-3 and a discount factor of 0.9 for the particle environments.
`--mode=settings` prints the settings that a run would use; `run.json` in the run folder holds those
that it used.

The defaults of learning and networks are those of PyMARL's `default.yaml` and `qmix.yaml`, which
count the target networks' period in episodes, one update each. The optimiser is Adam, as in
EPyMARL and PyMARL2.
"""


def command() -> list[str]:
    """The flags that belong to `main.py` alone."""
    values = cli.define(flags.FlagValues())
    lines = ["## main.py alone", "", "| flag | what |", "|---|---|"]
    lines.append(f"| `--mode` | What to do: {', '.join(MODES)}. |")
    names = ("seeds", "jobs", "episodes", "epsilon", "which", "profile", "compile_cache", "debug")
    lines += [f"| `--{name}` | {values[name].help} |" for name in names]
    return [*lines, "| `--flagfile` | Settings from a file, one --name=value a line. |"]


def page() -> str:
    """The whole page, Markdown."""
    lines, group = [HEAD.rstrip(), "", *command()], ""
    for name, field in FIELDS.items():
        meta = field.metadata
        if meta["group"] != group:
            group = meta["group"]
            lines += ["", f"## {group}", "", "| setting | default | unit | what |"]
            lines += ["|---|---|---|---|"]
        default = f"`{field.default}`" if field.default not in ("", ()) else ""
        what = meta["help"] + bounds(field)
        lines.append(f"| `--{name}` | {default} | {meta['unit']} | {what} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "settings.md").write_text(page())
