"""Names of environments: which there are, and which one a wrong name may mean."""

from __future__ import annotations

import difflib
import re
from typing import Any

from tfmix.envs.suggest import suggest
from tfmix.errors import UserError
from tfmix.utils.text import nearest

# name: (module, builder, arguments that the name fixes)
GRAPH: dict[str, tuple[str, str, dict[str, Any]]] = {
    "two_step": ("tfmix.envs.graph.matrix", "two_step", {}),
    "matrix/qtran": (
        "tfmix.envs.graph.matrix",
        "matrix_game",
        {"payoff": [[8, -12, -12], [-12, 0, 0], [-12, 0, 0]]},
    ),
    "matrix/custom": ("tfmix.envs.graph.matrix", "matrix_game", {}),
    "matrix/wqmix_1": ("tfmix.envs.graph.matrix", "matrix_game", {"payoff": [[1, 0], [0, 1]]}),
    "matrix/qplex_hard": (
        "tfmix.envs.graph.matrix",
        "matrix_game",
        {"payoff": [[8, -12, -12], [-12, 6, 0], [-12, 0, 6]]},
    ),
    "matrix/qtran_21x21": ("tfmix.envs.graph.matrix", "qtran_21x21", {}),
    "matrix/climbing": (
        "tfmix.envs.graph.matrix",
        "repeated_game",
        {"payoff": [[11, -30, 0], [-30, 7, 0], [0, 6, 5]]},
    ),
    **{
        f"matrix/penalty_{k}": (
            "tfmix.envs.graph.matrix",
            "repeated_game",
            {"payoff": [[-k, 0, 10], [0, 2, 0], [10, 0, -k]]},
        )
        for k in (0, 25, 50, 75, 100)
    },
    "gaussian_squeeze/k1": (
        "tfmix.envs.graph.squeeze",
        "GaussianSqueeze",
        {"peaks": [(8.0, 0.5)]},
    ),
    "gaussian_squeeze/k2": (
        "tfmix.envs.graph.squeeze",
        "GaussianSqueeze",
        {"peaks": [(5.0, 1.0), (8.0, 0.5)]},
    ),
    "mpe/simple_speaker_listener": ("tfmix.envs.graph.mpe_talk", "SimpleSpeakerListener", {}),
    "mpe/simple_reference": ("tfmix.envs.graph.mpe_talk", "SimpleReference", {}),
    "mpe/simple_spread": ("tfmix.envs.graph.mpe", "SimpleSpread", {}),
    "predator_prey/qtran": ("tfmix.envs.graph.predator_prey", "ModifiedPredatorPrey", {}),
    "predator_prey/pair_hunt": ("tfmix.envs.graph.stag_hunt", "pair_hunt", {}),
    "predator_prey/stag_hunt": ("tfmix.envs.graph.stag_hunt", "StagHunt", {}),
}

# prefix: (module, builder, what follows the prefix)
PYTHON: dict[str, tuple[str, str, str]] = {
    "pettingzoo": (
        "tfmix.envs.python.adapters.pettingzoo",
        "make_env",
        "<module path of a ParallelEnv or AEC>, such as pettingzoo/pettingzoo.mpe.simple_spread_v3",
    ),
    "gymnasium": (
        "tfmix.envs.python.adapters.gymnasium",
        "make_env",
        "<id of several agents>, such as gymnasium/Foraging-8x8-2p-2f-coop-v3 or "
        "gymnasium/module:Id",
    ),
    "pymarl": (
        "tfmix.envs.python.adapters.pymarl",
        "make_env",
        "<module:Class> with the interface of PyMARL's MultiAgentEnv",
    ),
    "smac": ("tfmix.envs.python.adapters.games", "smac", "<map>, such as smac/3s5z"),
    "smacv2": ("tfmix.envs.python.adapters.games", "smacv2", "<map>, such as smacv2/10gen_terran"),
    "football": (
        "tfmix.envs.python.adapters.games",
        "football",
        "<scenario>, such as football/academy_3_vs_1_with_keeper",
    ),
}

# The name of a user's environment: module:function without a prefix.
CUSTOM = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def is_graph(name: str) -> bool:
    """Return whether `name` is a graph environment of tfmix.

    The kind of a user's environment is known once it is built, see `kinds.kind_of`.

    Raises:
      UserError: there is no environment of that name.
    """
    if name in GRAPH:
        return True
    prefix, slash, rest = name.partition("/")
    if (prefix in PYTHON and slash and rest) or CUSTOM.fullmatch(name):
        return False
    if prefix in PYTHON:
        raise UserError(f"--env={name}: write {prefix}/{PYTHON[prefix][2]}")
    if ":" in prefix:
        raise UserError(f"--env={name}: write module:function, such as my_package.my_module:MyEnv")
    family = [known for known in GRAPH if known.startswith(f"{prefix}/")]
    close = nearest(name, family)
    if family and not close:
        raise UserError(f"there is no environment {name!r}; there are {', '.join(family)}")
    close = close or _with_prefix(prefix, rest) or suggest(name, [*GRAPH, *PYTHON])
    raise UserError(f"there is no environment {name!r}{close}")


def _with_prefix(prefix: str, rest: str) -> str:
    """Return `; did you mean 'smac/3m'?` for `SMAC/3m` or `smack/3m`, else nothing."""
    close = difflib.get_close_matches(prefix.lower(), PYTHON, 1, 0.6) if rest else []
    return f"; did you mean {f'{close[0]}/{rest}'!r}?" if close else ""
