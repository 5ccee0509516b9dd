"""Keeps dependencies' banners and warnings off the user's screen."""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from types import ModuleType


def quiet_import(name: str) -> ModuleType:
    """Imports a module; what it prints and warns about while doing so is dropped."""
    with (
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        return importlib.import_module(name)
