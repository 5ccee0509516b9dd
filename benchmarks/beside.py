"""Compares the speed of an update in other checkouts of tfmix and in this one.

  git worktree add ../before COMMIT
  python benchmarks/beside.py ../before --algo=qmix,qtran_base --size=smac --repeats=9

Each checkout runs in its own process, which times `Learner.update` in a compiled loop with the
sizes and batches of benchmarks/update.py. The processes take turns in every repeat, so that
changes in the machine's speed affect all of them. The ratio is the median over repeats of the
other checkout's time divided by this one's: above 1, this checkout is faster. `faults` counts
page faults, memory pages that the system hands out, in an update. The exit code is 1 if a
checkout fails, and 2 if a folder is not a checkout.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def serve(tree: str, algo: str) -> None:
    """Measure in the process of one checkout: a line `size` in, milliseconds and faults out."""
    sys.path.insert(0, tree)
    import tfmix  # noqa: F401  (of `tree`; what it imports comes from there too)

    sys.path.insert(0, str(ROOT))
    from benchmarks.update import SIZES, Side, settings

    sides: dict[str, Any] = {}
    for line in sys.stdin:
        size = line.strip()
        if size not in sides:
            sides[size] = Side(settings(algo), SIZES[size])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        seconds = sides[size].in_loop()
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        print("found", 1e3 * seconds, faults / sides[size].count, flush=True)


class Checkout:
    """The process of one checkout."""

    def __init__(self, tree: Path, algo: str):
        command = [sys.executable, __file__, "--serve", algo, str(tree)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, cwd=tree
        )

    def ask(self, size: str) -> None:
        """Ask the process to measure."""
        assert self.process.stdin
        self.process.stdin.write(size + "\n")
        self.process.stdin.flush()

    def answer(self) -> tuple[float, float]:
        """Return milliseconds of an update and page faults of one."""
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("found"):
                _, ms, faults = line.split()
                return float(ms), float(faults)
        raise RuntimeError("a checkout's process ended")

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def measure(trees: list[Path], algo: str, sizes: list[str], repeats: int) -> list[dict[str, Any]]:
    """Measure one row per checkout and size."""
    checkouts, rows = [Checkout(tree, algo) for tree in trees], []
    for size in sizes:
        for one in checkouts:  # all compile in parallel
            one.ask(size)
        for one in checkouts:
            one.answer()
        found: list[list[tuple[float, float]]] = [[] for _ in trees]
        for _ in range(repeats):
            for one, times in zip(checkouts, found, strict=True):
                one.ask(size)
                times.append(one.answer())
        for tree, times in zip(trees, found, strict=True):
            ratios = [other[0] / own[0] for other, own in zip(times, found[0], strict=True)]
            rows.append(
                {
                    "algo": algo,
                    "size": size,
                    "checkout": "this one" if tree == ROOT else tree.name,
                    "ms": [ms for ms, _ in times],
                    "ratios": ratios,
                    "faults": statistics.median(count for _, count in times),
                }
            )
    for one in checkouts:
        one.close()
    return rows


def main() -> int:
    """Measure, print and write; return the exit code."""
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[3], sys.argv[2])
        return 0
    sys.path.insert(0, str(ROOT))
    from benchmarks.update import SIZES, about, check, chosen, parser_of, print_about, text
    from tfmix import algos
    from tfmix.errors import UserError

    parser = parser_of(__doc__, repeats=7)
    parser.add_argument("checkouts", nargs="+", type=Path)
    parser.add_argument("--algo", default="qmix", help="names, separated by commas")
    parser.add_argument("--size", default="", help="spread, smac; empty means both")
    asked = parser.parse_args()
    try:
        names = chosen(asked.algo, algos.REGISTRY, "algorithm")
        sizes = chosen(asked.size, SIZES, "size")
        check(asked)
        for tree in asked.checkouts:
            if not (tree / "tfmix" / "learner.py").is_file():
                raise UserError(f"{tree} is not a checkout of tfmix")
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    trees = [ROOT, *(tree.resolve() for tree in asked.checkouts)]
    print_about(about(), asked.repeats)
    print("| size | algorithm | checkout | in loop | ratio | faults |\n|---|---|---|---|---|---|")
    rows = []
    for algo in names:
        try:
            found = measure(trees, algo, sizes, asked.repeats)
        except (RuntimeError, BrokenPipeError) as error:
            print(f"{algo}: {error}", file=sys.stderr)
            return 1
        for row in found:
            cells = [row["size"], algo, row["checkout"], text(row["ms"]), text(row["ratios"], 2)]
            print("|", " | ".join([*cells, f"{row['faults']:,.0f}"]), "|", flush=True)
        rows += found
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
