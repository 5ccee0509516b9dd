"""Texts about settings, for `--help` and docs/settings.md."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfmix.config.schema import FIELDS
from tfmix.config.values import as_typed


def describe() -> str:
    """Return every setting by group, with default and bounds, for `--help`."""
    lines: list[str] = []
    group = ""
    for name, field in FIELDS.items():
        meta = field.metadata
        if meta["group"] != group:
            group = meta["group"]
            lines += ["", group]
        default = "" if field.default == () else as_typed(field.default)
        unit = f" {meta['unit']}" if meta["unit"] else ""
        lines += [f"  --{name}={default}{unit}", f"      {meta['help']}{bounds(field)}"]
    return "\n".join(lines)


def bounds(field: dataclasses.Field[Any]) -> str:
    """Return what values a setting allows, as a sentence."""
    meta = field.metadata
    if "choices" in meta:
        return f" One of {', '.join(meta['choices'])}."
    low, high = meta.get("low"), meta.get("high")
    if low is not None and high is not None:
        return f" From {low} to {high}."
    return "" if low is None else f" At least {low}."
