"""What may be imported: a run folder alone does not decide it."""

from __future__ import annotations

from typing import Any

from tfmix.envs.registry import CUSTOM
from tfmix.errors import UserError

# What the user of this process asked for.
_ALLOWED: set[str] = set()


def allow_import(name: str) -> None:
    """Remembers that the user, and not only a run folder, names this environment."""
    _ALLOWED.add(name)


def may_import(name: str) -> bool:
    """Whether a run folder's word is enough to build `name`."""
    return name in _ALLOWED or not imports_user_code(name)


def check_import(name: str, folder: Any) -> None:
    """Raises UserError where a run folder's word is not enough to build `name`."""
    if not may_import(name):
        raise UserError(
            f"the run.json of {folder} names code to import and call: add --env={name} if that "
            "is yours or you trust it"
        )


def imports_user_code(name: str) -> bool:
    """Whether `name` says what to import and call, `os:system` for one.

    A run.json may come from anybody. Its word is enough for the environments of
    tfmix and of the packages that they are made for, and for no others.
    """
    prefix, _, rest = name.partition("/")
    return (
        bool(CUSTOM.fullmatch(name))
        or prefix == "pymarl"
        or (prefix == "pettingzoo" and not rest.startswith("pettingzoo."))
        or (prefix == "gymnasium" and ":" in rest)
    )
