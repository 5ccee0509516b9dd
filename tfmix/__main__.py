"""Runs the command line: `python -m tfmix`, or this file by its path."""

import os.path
import sys

if not __package__:
    # By its path Python looks for modules in this file's folder, where `types` is tfmix's.
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100,PTH120

if __name__ == "__main__":
    from tfmix.cli import console

    console()
