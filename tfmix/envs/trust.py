"""Decides which modules may be imported: the name in a run folder alone is not enough."""

from __future__ import annotations

from typing import Any

from tfmix.envs.registry import CUSTOM
from tfmix.errors import UserError

# Names that the user of this process asked for.
_ALLOWED: set[str] = set()


def allow_import(name: str) -> None:
    """Record that the user, and not only a run folder, names this environment."""
    _ALLOWED.add(name)


def may_import(name: str) -> bool:
    """Return whether `name` may be built when only a run folder names it."""
    return name in _ALLOWED or not imports_user_code(name)


def check_import(name: str, folder: Any) -> None:
    """Raise UserError if `name` may not be built when only the run `folder` names it."""
    if not may_import(name):
        raise UserError(
            f"the run.json of {folder} names code to import and call: add --env={name} if that "
            "is yours or you trust it"
        )


def imports_user_code(name: str) -> bool:
    """Return whether `name` says what to import and call, such as `os:system`.

    A run.json may come from anybody. The name in it is enough for the environments
    of tfmix and of the packages that the adapters are written for, and for no others.
    """
    prefix, _, rest = name.partition("/")
    return (
        bool(CUSTOM.fullmatch(name))
        or prefix == "pymarl"
        or (prefix == "pettingzoo" and not rest.startswith("pettingzoo."))
        or (prefix == "gymnasium" and ":" in rest)
    )
