"""Runs tfmix's command line from a checkout: `python main.py --help`."""

import sys

if not (3, 10) <= sys.version_info[:2] <= (3, 13):
    sys.exit(
        "tfmix runs on Python 3.10 to 3.13, this is "
        f"{sys.version_info[0]}.{sys.version_info[1]}: make a virtual environment with one of those"
    )

from tfmix.cli import console, main

__all__ = ["main"]

if __name__ == "__main__":
    console()
