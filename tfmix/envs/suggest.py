"""What a wrong name of an environment may mean. Nothing is imported to find it out."""

# Names are anything that was typed, and Path raises OSError if one is too long for a file.
# ruff: noqa: PTH112, PTH113, PTH118

from __future__ import annotations

import ast
import difflib
import importlib.util
import os
import re
from collections.abc import Iterable
from pathlib import Path

from tfmix.errors import UserError

# Packages whose environments Gymnasium has under another name, and one of these.
_PACKAGES = {
    "lbforaging": "gymnasium/Foraging-8x8-2p-2f-coop-v3",
    "lbf": "gymnasium/Foraging-8x8-2p-2f-coop-v3",
    "foraging": "gymnasium/Foraging-8x8-2p-2f-coop-v3",
    "rware": "gymnasium/rware-tiny-2ag-v2",
    "robotic_warehouse": "gymnasium/rware-tiny-2ag-v2",
    "starcraft": "smac/3s5z",
    "sc2": "smac/3s5z",
    "gfootball": "football/academy_3_vs_1_with_keeper",
    "grf": "football/academy_3_vs_1_with_keeper",
}
MOST_FILE = 10**6  # bytes of a module that is looked into


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` or more for a name that is no environment, else nothing.

    Args:
      name: what was asked for.
      known: the names and prefixes of tfmix's own environments.
    """
    if own := _own_module(name):
        return own
    if name.lower() in _PACKAGES:
        return f"; did you mean {_PACKAGES[name.lower()]!r}?"
    if re.search(r"-v\d+$", name):  # such as Foraging-8x8-2p-2f-coop-v3, or module:Id-v0
        return f"; did you mean {f'gymnasium/{name}'!r}?"
    names = {full: full for full in known}
    for full in list(names):
        names.setdefault(full.rpartition("/")[2], full)
    for module in pettingzoo_modules():
        short = module.rpartition(".")[2]
        names.setdefault(short, f"pettingzoo/{module}")
        names.setdefault(f"pettingzoo/{short}", f"pettingzoo/{module}")
        names.setdefault(module, f"pettingzoo/{module}")
    close = difflib.get_close_matches(name, names, 1, 0.6)
    if close:
        return f"; did you mean {names[close[0]]!r}?"
    return "; --mode=list prints those of tfmix, and one of yours is module:Class"


def pettingzoo_modules() -> list[str]:
    """Return PettingZoo's environments as module paths, if it is installed."""
    spec = importlib.util.find_spec("pettingzoo")
    folders = spec.submodule_search_locations if spec else None
    return sorted(
        f"pettingzoo.{file.parent.name}.{file.stem}"
        for folder in folders or ()
        for file in Path(folder).glob("*/*_v[0-9]*.py")
    )


def check_target(name: str) -> None:
    """Check the module and the attribute that a name gives, as far as files alone tell.

    Args:
      name: `pettingzoo/<module>`, `<module>:<attribute>` or another name.

    Raises:
      UserError: there is no such module, or a module in the current directory lacks the
        attribute.
    """
    prefix, _, rest = name.partition("/")
    if prefix == "pettingzoo" and rest and not _exists(rest):
        close = suggest(name, ())
        raise UserError(
            f"{name}: cannot import {rest}, neither installed nor in this directory{close}"
        )
    if ":" in name and "/" not in name:
        module, _, attribute = name.partition(":")
        if own := _own_module(name):
            raise UserError(f"there is no environment {name!r}{own}")
        names = _names_in(Path(f"{module.replace('.', '/')}.py"))
        if names is not None and attribute.partition(".")[0] not in names:
            found = _as_targets(module)
            raise UserError(f"there is no {attribute} in {module}{found}")


def _exists(module: str) -> bool:
    """Return whether a module is installed or in the current directory, as far as files tell."""
    top, *rest = module.split(".")
    if os.path.isdir(top) or os.path.isfile(f"{top}.py"):
        return True
    try:
        spec = importlib.util.find_spec(top) if top else None
    except (ImportError, ValueError):
        return False
    if spec is None or not rest or not spec.submodule_search_locations:
        return spec is not None
    paths = [os.path.join(folder, *rest) for folder in spec.submodule_search_locations]
    return any(os.path.isdir(path) or os.path.isfile(f"{path}.py") for path in paths)


def _own_module(name: str) -> str:
    """Return what to write for a module file in the current directory, or nothing.

    `warehouse`, `warehouse.py`, `warehouse.Warehouse` and `warehouse.py:Warehouse` all
    mean `warehouse:Warehouse`.
    """
    match = re.fullmatch(r"(?:\./)?(\w+)(?:(\.py)?|(\.py:|\.)(\w+))", name)
    if not match or not os.path.isfile(f"{match[1]}.py"):
        return ""
    if match[4]:
        return f"; write {match[1]}:{match[4]}"
    return _as_targets(match[1])


def _as_targets(module: str) -> str:
    """Return which environments a module in the current directory has, as text for an error."""
    path = Path(f"{module.replace('.', '/')}.py")
    tree = _read(path)
    if tree is None:
        return ""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    found = [node.name for node in classes if _is_environment(node)]
    if len(found) == 1:
        return f"; write {module}:{found[0]}"
    if found:
        return f"; it has {', '.join(f'{module}:{one}' for one in found)}"
    return f"; write {module}: and the name of its class or function"


def _is_environment(node: ast.ClassDef) -> bool:
    """Return whether a class has `reset` and `step`."""
    methods = {x.name for x in node.body if isinstance(x, ast.FunctionDef)}
    return {"reset", "step"} <= methods


def _names_in(path: Path) -> set[str] | None:
    """Return the names that a module defines, None if its text does not tell."""
    tree = _read(path)
    if tree is None:
        return None
    names: set[str] = set()
    for node in ast.walk(tree):  # also under `if` and `try`
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    dynamic = {"*", "__getattr__"} & names or "globals" in {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name)
    }
    return None if dynamic else names


def _read(path: Path) -> ast.Module | None:
    """Return the syntax tree of a module, None if it is no file or cannot be read."""
    try:
        if not os.path.isfile(path) or path.stat().st_size > MOST_FILE:
            return None
        return ast.parse(path.read_bytes())
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return None
