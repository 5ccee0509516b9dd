"""Lists the tables of the documentation, says which are stale, and rebuilds them in its pages.

  python benchmarks/book.py                    list every table, rebuild the pages
  python benchmarks/book.py --check            change nothing; exit code 1 if a page is out of date
  python benchmarks/book.py --check-commands   check every command that README and docs show
  python benchmarks/book.py --run-commands     run those of main.py, with small sizes, too

A table is one file, docs/data/<name>.csv. Its first lines begin with # and describe it:

  # page: results.md                           pages that show it, separated by spaces
  # command: python benchmarks/games.py ...    how it is made; one line for each command
  # runs: seeds 0 to 9                         what ran
  # code: tfmix/algos tfmix/training           the code that its numbers depend on
  # provenance: none                           for a table without measurements

The other lines are CSV. The last columns are commit, date and machine (a name in
docs/data/machines.csv). A row of several commits names them all, separated by spaces.
A page shows the table between two lines, which stay: `<!-- table: name -->` and
`<!-- end of table -->`. A row is stale if code that its table depends on has changed
since its commit.
"""

from __future__ import annotations

import argparse
import csv
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "docs" / "data"
PROVENANCE = ["commit", "date", "machine"]
MARKED = re.compile(r"<!-- table: ([\w-]+) -->\n.*?<!-- end of table -->", re.DOTALL)
NUMBER = re.compile(r"[-+]?[\d,]*\.?\d+(e[-+]?\d+)?%?")


class BookError(Exception):
    """A table or a page that is not as the rules of this module say."""


class Table(NamedTuple):
    """Holds one file of docs/data.

    Attributes:
      name: the file's name without its ending.
      about: what the lines with # say, by key; the values of a key in order.
      header: names of the columns.
      rows: cells, as many in each row as in the header.
    """

    name: str
    about: dict[str, list[str]]
    header: list[str]
    rows: list[list[str]]

    def commits(self) -> list[str]:
        """Return the commits that its rows name, each once, in the order of the rows."""
        if PROVENANCE[0] not in self.header:
            return []
        column = self.header.index(PROVENANCE[0])
        return list(dict.fromkeys(c for row in self.rows for c in row[column].split()))


def read(path: Path) -> Table:
    """Read one file of docs/data.

    Raises:
      BookError: a key, a row or a provenance column is missing.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    about: dict[str, list[str]] = {}
    while lines and lines[0].startswith("#"):
        key, _, value = lines.pop(0)[1:].partition(":")
        about.setdefault(key.strip(), []).append(value.strip())
    header, *rows = csv.reader(lines)
    for row in rows:
        if len(row) != len(header):
            raise BookError(f"{path.name}: {len(row)} cells under {len(header)} columns: {row}")
    table = Table(path.stem, about, header, rows)
    if "page" not in about:
        raise BookError(f"{path.name}: its first lines do not name a page (# page: results.md)")
    if about.get("provenance") != ["none"]:
        _check_provenance(table)
    return table


def _check_provenance(table: Table) -> None:
    """Raise BookError if a row lacks commit, date or machine, or the file its command or code."""
    if table.header[-3:] != PROVENANCE:
        raise BookError(f"{table.name}.csv: its last columns are not commit, date, machine")
    for key in ("command", "code"):
        if key not in table.about:
            raise BookError(f"{table.name}.csv: its first lines have no `# {key}:`")
    known = {row[0] for row in csv.reader(_body(DATA / "machines.csv"))}
    for row in table.rows:
        commit, date, machine = row[-3:]
        if not re.fullmatch(r"[0-9a-f]{7,40}( [0-9a-f]{7,40})*", commit):
            raise BookError(f"{table.name}.csv: {commit!r} is not a commit, in {row}")
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", date) or machine not in known:
            raise BookError(f"{table.name}.csv: no date, or no machine of machines.csv, in {row}")


def _body(path: Path) -> list[str]:
    """Return the lines of a file of docs/data that are CSV."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line[:1] != "#"]


def tables() -> list[Table]:
    """Read every file of docs/data; raise BookError."""
    return [read(path) for path in sorted(DATA.glob("*.csv"))]


def markdown(table: Table) -> str:
    """Return what a page shows: the commands, what ran, and the table."""
    parts = []
    if commands := table.about.get("command"):
        parts.append("\n".join(["```sh", *commands, "```"]))
    parts += [f"Runs: {runs}." for runs in table.about.get("runs", [])]
    right = [
        all(NUMBER.fullmatch(row[i]) or not row[i] for row in table.rows)
        for i in range(len(table.header))
    ]
    lines = [_line(table.header), _line(["---:" if r else "---" for r in right])]
    marks = [name == PROVENANCE[0] for name in table.header]
    for row in table.rows:
        cells = [
            " ".join(f"`{c}`" for c in cell.split()) if mark else cell
            for cell, mark in zip(row, marks, strict=True)
        ]
        lines.append(_line(cells))
    parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _line(cells: list[str]) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def rebuilt(page: Path, known: dict[str, Table]) -> str:
    """Return the text of a page with its tables made again.

    Raises:
      BookError: the page marks a table that is not there, or that names other pages.
    """

    def fill(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in known or page.name not in known[name].about["page"][0].split():
            raise BookError(f"{page.name} marks a table {name}, and no docs/data file gives it one")
        body = markdown(known[name])
        return f"<!-- table: {name} -->\n\n{body}\n\n<!-- end of table -->"

    text = page.read_text(encoding="utf-8")
    found = set(MARKED.findall(text))
    for table in known.values():
        if page.name in table.about["page"][0].split() and table.name not in found:
            raise BookError(
                f"docs/data/{table.name}.csv belongs to {page.name}, which lacks the lines "
                f"`<!-- table: {table.name} -->` and `<!-- end of table -->`"
            )
    return MARKED.sub(fill, text)


def changed_since(commit: str, paths: list[str]) -> str:
    """Return git's short statistics of what changed in `paths` since a commit, '' for nothing."""
    done = subprocess.run(
        ["git", "diff", "-M", "--shortstat", commit, "HEAD", "--", *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip() if done.returncode == 0 else "unknown commit"


def describe(table: Table) -> str:
    """Return what the list says of a table: pages, command, runs, and what is stale."""
    about = table.about
    lines = [f"{table.name} ({about['page'][0]}): {len(table.rows)} rows"]
    lines += [f"  {command}" for command in about.get("command", [])]
    lines += [f"  runs: {runs}" for runs in about.get("runs", [])]
    paths = " ".join(about.get("code", [])).split()
    for commit in table.commits():
        changed = changed_since(commit, paths)
        lines.append(f"  {commit}: {'stale, ' + changed if changed else 'current'}")
    return "\n".join(lines)


def build(known: dict[str, Table], check: bool) -> int:
    """Rebuild the pages that show tables; with `check` it only compares.

    Returns:
      the exit code: 1 if `check` found a page that is out of date.
    """
    pages = sorted({name for table in known.values() for name in table.about["page"][0].split()})
    stale = 0
    for name in pages:
        page = ROOT / "docs" / name
        text = rebuilt(page, known)
        if text == page.read_text(encoding="utf-8"):
            continue
        if check:
            print(f"docs/{name} is out of date: run python benchmarks/book.py")
            stale = 1
        else:
            page.write_text(text, encoding="utf-8")
            print(f"docs/{name} rebuilt")
    return stale


def main() -> int:
    """Do what the command line asks for and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("check", "check-commands", "run-commands"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--pages", default="", help="pages for commands, comma-separated")
    asked = parser.parse_args()
    if asked.check_commands or asked.run_commands:
        sys.path.insert(0, str(ROOT))
        from benchmarks import commands

        return commands.check_all(asked.pages, and_run=asked.run_commands)
    try:
        known = {table.name: table for table in tables()}
        if not asked.check:
            print("\n\n".join(describe(table) for table in known.values()))
        return build(known, asked.check)
    except BookError as error:
        print(f"book.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
