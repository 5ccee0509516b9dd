"""How much memory there is for what a run asks for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tfmix.errors import UserError


def available_bytes(root: Path = Path("/")) -> int | None:
    """Memory that can still be had, None where the system does not say.

    On Linux what the kernel says is available, or less where a control group,
    such as a container's, has less left below its limit (files that it can let
    go of are not counted as used). Elsewhere all memory of the machine.

    Args:
      root: where `proc` and `sys` are.
    """
    found = [*_of_groups(root)]
    lines = _read(root / "proc/meminfo").splitlines()
    found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    if found:
        return max(min(found), 0)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _read(path: Path) -> str:
    """What stands in a file, nothing where it cannot be read."""
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def _of_groups(root: Path) -> Iterator[int]:
    """What is left below the limit of each control group that this process is in."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if not controllers:  # version 2
            top, files = root / "sys/fs/cgroup", ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            files = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        inside = top / path.lstrip("/")
        # Limits of the groups around it hold too; in a container only the top may be seen.
        for group in (inside, *inside.parents):
            limit, used = (_read(group / name).strip() for name in files)
            if limit.isdecimal() and used.isdecimal():  # `max` is no limit
                yield int(limit) - int(used) + _reclaimable(group)
            if group == top:
                break


def _reclaimable(group: Path) -> int:
    """The part of a group's memory that holds files nobody reads."""
    words = dict(line.split()[:2] for line in _read(group / "memory.stat").splitlines() if line)
    return int(words.get("total_inactive_file") or words.get("inactive_file") or 0)


def in_words(size: float) -> str:
    """Bytes as `0.9 GB` or `60 MB`."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.0f} MB"


def check_memory(needed: int, what: str, advice: str) -> None:
    """Refuse what the machine cannot hold.

    Args:
      needed: bytes.
      what: needs them, such as `a replay of 5,000 episodes`.
      advice: what to do.

    Raises:
      UserError: less is available.
    """
    room = available_bytes()
    if room is not None and needed > room:
        raise UserError(
            f"{what} needs {in_words(needed)} of memory and {in_words(room)} are available: "
            f"{advice}"
        )
