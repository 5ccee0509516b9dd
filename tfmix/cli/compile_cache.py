"""--compile_cache: a folder in which XLA keeps compiled code."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path

from tfmix.errors import UserError


def keep_compiled(folder: str) -> None:
    """Make XLA keep what it compiles, for this machine and this TensorFlow.

    Raises:
      UserError: no such folder can be made, or somebody else could put code there.
    """
    about = [platform.platform(), platform.processor(), importlib.metadata.version("tensorflow")]
    if (cpu := Path("/proc/cpuinfo")).exists():
        lines = cpu.read_text().splitlines()
        about += [x for x in lines if x.startswith(("model name", "flags", "Features"))][:2]
    try:
        path = Path(folder).expanduser().absolute()
    except RuntimeError as error:  # ~ of a user that does not exist
        raise UserError(f"--compile_cache={folder}: {error}") from error
    path /= hashlib.sha256(repr(about).encode()).hexdigest()[:16]
    if any(letter.isspace() for letter in str(path)):
        raise UserError(f"--compile_cache={folder}: XLA takes no path with spaces")
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as error:
        raise UserError(f"--compile_cache={folder}: {error.strerror}") from error
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise UserError(
            f"--compile_cache={folder}: others can write to {path}, and code in it is executed; "
            "choose a folder that only you can write to"
        )
    # Read when TensorFlow compiles for the first time, in the processes of a benchmark too.
    asked = [os.environ.get("TF_XLA_FLAGS", ""), f"--tf_xla_persistent_cache_directory={path}"]
    os.environ["TF_XLA_FLAGS"] = " ".join(asked).strip()
