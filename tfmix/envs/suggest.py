"""What a wrong name of an environment may mean. Nothing is imported to find it out."""

# Names are anything that was typed, and Path raises OSError if one is too long for a file.
# ruff: noqa: PTH112, PTH113, PTH118

from __future__ import annotations

import ast
import difflib
import importlib.util
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from tfmix.errors import UserError

# Names of packages, and an environment of each.
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
# What people name without the prefix: SMAC's maps, such as 3s5z_vs_3s6z, and scenarios of
# Google Research Football.
_UNIT = r"(\d+[a-z]{1,2})+"
_SMAC = re.compile(rf"MMM2?|corridor|bane_vs_bane|so_many_baneling|{_UNIT}(_vs_{_UNIT})?")
_SCENARIO = re.compile(r"academy_\w+")
MOST_FILE = 10**6  # bytes of a module that is looked into
MOST_FILES = 200  # modules of the current directory that are looked into
# Prints the ids that Gymnasium knows once the packages that are named are imported.
_IDS = """
import contextlib, importlib, io, sys
with contextlib.redirect_stdout(io.StringIO()):
    import gymnasium
    for package in sys.argv[1:]:
        with contextlib.suppress(ImportError):
            importlib.import_module(package)
print(*gymnasium.registry, sep="\\n")
"""
# Packages that register their environments when they are imported, by the start of the ids.
REGISTERING = {"Foraging": "lbforaging", "rware": "rware"}


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` or more for a name that is not an environment, else nothing.

    Args:
      name: the name that does not exist.
      known: the names and prefixes of tfmix's own environments.
    """
    if own := _own_module(name):
        return own
    if name.lower() in _PACKAGES:
        return f"; did you mean {_PACKAGES[name.lower()]!r}?"
    if _SMAC.fullmatch(name):
        return f"; did you mean {f'smac/{name}'!r}?"
    if _SCENARIO.fullmatch(name):
        return f"; did you mean {f'football/{name}'!r}?"
    close = _nearest(name, _gymnasium_names() if _is_id(name) else _names(known))
    if close:
        return f"; did you mean {close!r}?"
    if re.search(r"-v\d+$", name):  # of a package that is not known or not installed
        return f"; did you mean {f'gymnasium/{name}'!r}?"
    return "; --mode=list prints those of tfmix, and your own is module:Class"


def _nearest(name: str, names: Mapping[str, str]) -> str:
    """Return what the closest of `names`, in any case, stands for; nothing if none is close."""
    folded = {known.lower(): full for known, full in names.items()}
    close = difflib.get_close_matches(name.lower(), folded, 1, 0.6)
    return folded[close[0]] if close else ""


def _is_id(name: str) -> bool:
    """Return whether a name looks like an id of Gymnasium, such as Foraging-8x8-2p-2f-coop-v3."""
    starts = tuple(start.lower() + "-" for start in REGISTERING)
    return bool(re.search(r"-v\d+$", name)) or name.lower().startswith(starts)


def _names(known: Iterable[str]) -> dict[str, str]:
    """Return environments by the names that people give them.

    Args:
      known: the names and prefixes of tfmix's own environments.
    """
    names = {full: full for full in known}
    for full in list(names):
        names.setdefault(full.rpartition("/")[2], full)
    for module in pettingzoo_modules():
        short = module.rpartition(".")[2]
        for other in (short, f"pettingzoo/{short}", module):
            names.setdefault(other, f"pettingzoo/{module}")
    for module, classes in _modules_here().items():
        names.setdefault(module, f"{module}:{classes[0]}")
    return names


def _modules_here() -> dict[str, list[str]]:
    """Return the modules of the current directory that have environments, and their classes."""
    found: dict[str, list[str]] = {}
    try:
        with os.scandir() as entries:
            files = [entry.name for entry in itertools.islice(entries, MOST_FILES)]
    except OSError:
        return {}
    for file in map(Path, sorted(files)):
        if file.suffix == ".py" and file.stem.isidentifier():
            tree = _read(file)
            if tree is not None and (classes := _environments_of(tree)):
                found[file.stem] = classes
    return found


def _gymnasium_names() -> dict[str, str]:
    """Return the ids that Gymnasium has with the packages that are installed.

    Another process asks for them, because importing packages takes time and may print.
    """
    if importlib.util.find_spec("gymnasium") is None:
        return {}
    command = [sys.executable, "-c", _IDS, *REGISTERING.values()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return {}
    return {name: f"gymnasium/{name}" for name in done.stdout.split()}


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
    """Check the module and the attribute that a name gives, from files alone.

    Args:
      name: `pettingzoo/<module>`, `<module>:<attribute>` or another name.

    Raises:
      UserError: there is no such module, or a module in the current directory lacks the
        attribute.
    """
    prefix, _, rest = name.partition("/")
    if prefix == "pettingzoo" and rest and not _exists(rest):
        raise UserError(_missing(name, rest, suggest(name, ())))
    if ":" in name and "/" not in name:
        module, _, attribute = name.partition(":")
        if own := _own_module(name):
            raise UserError(f"there is no environment {name!r}{own}")
        if not _exists(module):
            close = _nearest(module, {k: f"{k}:{v[0]}" for k, v in _modules_here().items()})
            raise UserError(_missing(name, module, f"; did you mean {close!r}?" if close else ""))
        names = _names_in(Path(f"{module.replace('.', '/')}.py"))
        if names is not None and attribute.partition(".")[0] not in names:
            found = _as_targets(module)
            raise UserError(f"there is no {attribute} in {module}{found}")


def _missing(name: str, module: str, close: str) -> str:
    """Return the error of an environment whose module cannot be found."""
    return f"{name}: cannot import {module}, neither installed nor in this directory{close}"


def _exists(module: str) -> bool:
    """Return whether a module is installed or in the current directory, judged by its files."""
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
    found = _environments_of(tree)
    if len(found) == 1:
        return f"; write {module}:{found[0]}"
    if found:
        return f"; it has {', '.join(f'{module}:{one}' for one in found)}"
    return f"; write {module}: and the name of its class or function"


def _environments_of(tree: ast.Module) -> list[str]:
    """Return the classes of a module that have `reset` and `step`."""
    found = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            methods = {x.name for x in node.body if isinstance(x, ast.FunctionDef)}
            if {"reset", "step"} <= methods:
                found.append(node.name)
    return found


def _names_in(path: Path) -> set[str] | None:
    """Return the names that a module defines, None if its text does not show them."""
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
    """Return the syntax tree of a module, None if it is not a file or cannot be read."""
    try:
        if not os.path.isfile(path) or path.stat().st_size > MOST_FILE:
            return None
        return ast.parse(path.read_bytes())
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return None
