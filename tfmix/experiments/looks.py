"""How groups of runs look in a figure: colours by algorithm, and matplotlib's style."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from tfmix.experiments.curves import Key

DPI = 200
GREY = "#757575"
# The muted scheme of Paul Tol, "Colour schemes" (SRON/EPS/TN/09-002, issue 3.2, 2021), figure 3,
# which people with a colour-vision deficiency can distinguish. Algorithms are in the registry's
# order; each has its own marker too.
COLORS = {
    "iql": ("#44AA99", "s"),
    "vdn": ("#332288", "o"),
    "qmix": ("#CC6677", "^"),
    "qatten": ("#DDCC77", "D"),
    "cw_qmix": ("#88CCEE", "v"),
    "ow_qmix": ("#117733", "P"),
    "qtran_base": ("#999933", "X"),
    "qtran_alt": ("#882255", "h"),
    "qplex": ("#AA4499", "*"),
}
# Of groups of one algorithm.
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
STYLE: Any = {  # names of settings are types of matplotlib's own
    "text.parse_math": False,  # names of environments are text, whatever is in them
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "legend.fontsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.edgecolor": "#424242",
    "xtick.color": "#424242",
    "ytick.color": "#424242",
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # TrueType, which publishers ask for
    "svg.hashsalt": "tfmix",
    "savefig.bbox": "tight",
}


class Look(NamedTuple):
    """Colour, marker and dashes of a group, as matplotlib takes them."""

    color: str
    marker: str
    dashes: Any


def looks_of(keys: Iterable[Key]) -> dict[Key, Look]:
    """Return the look of each group, in the registry's order: the colour is the algorithm's."""
    order = list(COLORS)
    found: dict[Key, Look] = {}
    for key in sorted(set(keys), key=lambda key: (order.index(key[0]), key[1])):
        before = sum(other[0] == key[0] for other in found)
        found[key] = Look(*COLORS[key[0]], DASHES[before % len(DASHES)])
    return found
