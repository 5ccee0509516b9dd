"""Checks whether the machine has the memory that a run needs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tfmix.errors import UserError


def available_bytes(root: Path = Path("/")) -> int | None:
    """Return the memory in bytes that a process can still get; None if it is not known.

    On Linux this is what the kernel reports as available, or less if a control group,
    such as a container's, has less left below its limit. Cached files that the kernel
    can drop do not count as used. On other systems it is all memory of the machine.

    Args:
      root: the folder that holds `proc` and `sys`.
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
    """Return the text of a file, nothing if it cannot be read."""
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def _of_groups(root: Path) -> Iterator[int]:
    """Yield the bytes below the limit of each control group that this process is in."""
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
        # The limits of the enclosing groups apply too; a container may see only the top one.
        for group in (inside, *inside.parents):
            limit, used = (_read(group / name).strip() for name in files)
            if limit.isdecimal() and used.isdecimal():  # `max` is not a limit
                yield int(limit) - int(used) + _reclaimable(group)
            if group == top:
                break


def _reclaimable(group: Path) -> int:
    """Return the bytes of a group's memory that hold cached files which nothing uses."""
    stat = dict(line.split()[:2] for line in _read(group / "memory.stat").splitlines() if line)
    return int(stat.get("total_inactive_file") or stat.get("inactive_file") or 0)


def format_bytes(size: float) -> str:
    """Return a number of bytes as `0.9 GB` or `60 MB`."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.0f} MB"


def check_memory(needed: int, what: str, advice: str) -> None:
    """Refuse what needs more memory than is available.

    Args:
      needed: bytes.
      what: what needs them, such as `a replay of 5,000 episodes`.
      advice: what the user can do.

    Raises:
      UserError: less is available.
    """
    available = available_bytes()
    if available is not None and needed > available:
        raise UserError(
            f"{what} needs {format_bytes(needed)} of memory and {format_bytes(available)} are "
            f"available: {advice}"
        )
