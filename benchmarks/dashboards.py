"""Takes screenshots of TensorBoard's dashboards with a headless Chromium.

  python benchmarks/dashboards.py runs/spread custom_scalars --height=860 \\
    --out=docs/images/tensorboard_run.png
  python benchmarks/dashboards.py runs/games hparams --width=1660 --height=420 \\
    --out=docs/images/tensorboard_grid.png
  python benchmarks/dashboards.py runs/inspected 'scalars&tagFilter=team%2F' --height=1080 \\
    --out=docs/images/tensorboard_scalars.png
  python benchmarks/dashboards.py runs/inspected images --height=1450 \\
    --out=docs/images/tensorboard_images.png

The folder is a run or has runs below it. The dashboards are timeseries, scalars, custom_scalars,
images, graphs, distributions, histograms, text and hparams. The runs of the pictures in the docs
come from

  python main.py --flagfile=flags/preset/quick_mpe.flags --algo=vdn --env=mpe/simple_spread \\
    --env_steps=150000 --eval_period_env_steps=10000 --run_dir=runs/spread
  python main.py --mode=benchmark --algo=vdn,qmix,qtran_alt --env=matrix/qtran --seeds=0:2 \\
    --env_steps=8000 --eval_period_env_steps=1000 --run_dir=runs/games
  python main.py --flagfile=flags/paper/qmix_matrix.flags --run_dir=runs/inspected/qmix
  python main.py --flagfile=flags/paper/qtran_alt_matrix.flags --run_dir=runs/inspected/qtran_alt
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Virtual time, in which timers of the page run: the charts are drawn within it.
DRAWN_MILLISECONDS = 60_000
START_SECONDS = 120


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with contextlib.closing(socket.socket()) as place:
        place.bind(("localhost", 0))
        return int(place.getsockname()[1])


@contextlib.contextmanager
def tensorboard(folder: Path) -> Iterator[str]:
    """Start TensorBoard on a folder, and yield its address once it has read the runs."""
    address = f"http://localhost:{(port := free_port())}"
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder)]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen([*command, "--port", str(port)], stdout=log, stderr=log)
        try:
            end = time.monotonic() + START_SECONDS
            while "[]" in (runs := answer(f"{address}/data/runs")) or not runs:
                if server.poll() is not None or time.monotonic() > end:
                    sys.exit(f"TensorBoard shows no runs of {folder}")
                time.sleep(0.5)
            yield address
        finally:
            server.terminate()
            server.wait()


def answer(url: str) -> str:
    """Return the text at a URL, nothing before there is an answer."""
    try:
        with urllib.request.urlopen(url, timeout=10) as page:
            return page.read().decode()
    except (urllib.error.URLError, OSError):
        return ""


def shoot(url: str, out: Path, width: int, height: int) -> None:
    """Write a screenshot of a page as a PNG of few colours."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit("there is no Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as profile:
        picture = Path(profile) / "page.png"
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        command += [f"--virtual-time-budget={DRAWN_MILLISECONDS}", f"--screenshot={picture}", url]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        out.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(picture) as image:
            image.convert("RGB").quantize(128).save(out, optimize=True)


def main() -> None:
    """Read the command line and write the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("dashboard")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=760)
    asked = parser.parse_args()
    with tensorboard(asked.folder) as address:
        url = f"{address}/?darkMode=false#{asked.dashboard}"
        shoot(url, asked.out, asked.width, asked.height)
    print(f"{asked.out}, {asked.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
