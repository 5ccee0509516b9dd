"""Takes pictures of TensorBoard's dashboards with a browser without a window, for the docs.

  python main.py --flagfile=flags/paper/qmix_matrix.flags --run_dir=runs/inspected/qmix
  python main.py --flagfile=flags/paper/qtran_alt_matrix.flags --run_dir=runs/inspected/qtran_alt
  python benchmarks/screenshots.py runs/inspected --out=docs/images

It needs Chromium: apt-get install chromium.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# File, part of TensorBoard's address, and the size of the window.
PAGES = {
    "tensorboard_scalars": ("scalars&tagFilter=team%2F", 1200, 1080),
    "tensorboard_images": ("images", 1200, 1450),
}
STARTS_SECONDS = 90


def free_port() -> int:
    """Return a port on which no program listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(url: str, runs: int) -> None:
    """Wait until TensorBoard has loaded the runs.

    Raises:
      TimeoutError: it does not answer, or has fewer runs.
    """
    for _ in range(STARTS_SECONDS):
        try:
            with urllib.request.urlopen(f"{url}/data/runs", timeout=5) as answer:
                if answer.read().count(b'"') >= 2 * runs:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(1)
    raise TimeoutError(f"TensorBoard has not loaded {runs} runs after {STARTS_SECONDS} seconds")


def take(browser: str, url: str, file: Path, width: int, height: int) -> None:
    """Write a page as PNG with few colours."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000"]
        flags += [f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        command = [browser, *flags, f"--screenshot={file}", url]
        subprocess.run(command, check=True, capture_output=True, timeout=180)
    Image.open(file).convert("RGB").quantize(128).save(file, optimize=True)


def main() -> None:
    """Start TensorBoard, take the pictures and end it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder of runs")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    asked = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit("there is no Chromium: apt-get install chromium")
    runs = len(list(asked.folder.glob("**/metrics.csv")))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(asked.folder)]
    command += ["--port", str(port), "--host", "127.0.0.1", "--load_fast=false"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(url, runs)
        time.sleep(5)  # it lists runs before it has read all of their events
        for name, (page, width, height) in PAGES.items():
            take(browser, f"{url}/#{page}", asked.out / f"{name}.png", width, height)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
