"""Tables of the pages are those of docs/data; commands of the pages are understood."""

import re
import subprocess
import sys

import pytest

from benchmarks import book, commands
from tfmix.monitoring.metrics_csv import COLUMNS
from tfmix.monitoring.tensorboard import TAGS

HEAD = ["# page: results.md", "# command: python main.py", "# code: tfmix"]
ROW = "VDN,1.5,{commit},{date},{machine}"


def write(path, row, head=HEAD):
    path.write_text("\n".join([*head, "algorithm,return,commit,date,machine", row]) + "\n")
    return path


def test_pages_show_the_tables_of_docs_data():
    known = {table.name: table for table in book.tables()}
    assert len(known) >= 15
    assert book.build(known, check=True) == 0, "run python benchmarks/book.py"


def test_every_measured_row_says_commit_date_and_machine(tmp_path):
    good = {"commit": "773c496", "date": "2026-11-25", "machine": "epyc2"}
    table = book.read(write(tmp_path / "x.csv", ROW.format(**good)))
    assert table.commits() == ["773c496"]
    assert "| VDN | 1.5 | `773c496` | 2026-11-25 | epyc2 |" in book.markdown(table)
    for name, value in (("commit", "?"), ("date", "yesterday"), ("machine", "mine")):
        bad = write(tmp_path / "x.csv", ROW.format(**{**good, name: value}))
        with pytest.raises(book.BookError, match=r"x\.csv"):
            book.read(bad)


@pytest.mark.parametrize("missing", HEAD)
def test_a_table_names_its_page_its_command_and_its_code(tmp_path, missing):
    row = ROW.format(commit="773c496", date="2026-11-25", machine="epyc2")
    path = write(tmp_path / "x.csv", row, [line for line in HEAD if line != missing])
    with pytest.raises(book.BookError, match=r"x\.csv"):
        book.read(path)


def test_a_row_is_stale_if_its_code_changed_and_says_so_for_a_commit_that_git_lacks():
    assert book.changed_since("HEAD", ["tfmix"]) == ""
    assert book.changed_since("0" * 40, ["tfmix"]) == "unknown commit"


def test_a_page_that_marks_no_table_of_its_data_is_refused(tmp_path):
    table = book.Table("x", {"page": ["page.md"]}, ["a"], [["1"]])
    page = tmp_path / "page.md"
    page.write_text("text\n<!-- table: x -->\n<!-- end of table -->\n")
    assert "| 1 |" in book.rebuilt(page, {"x": table})
    page.write_text("text\n")
    with pytest.raises(book.BookError, match=r"x\.csv belongs to page\.md"):
        book.rebuilt(page, {"x": table})


def test_every_command_of_the_pages_is_understood():
    found = [command for page in commands.pages() for command in commands.find(page)]
    assert len(found) > 40
    assert not [(c, wrong) for c in found if (wrong := commands.check(c))]


def test_wrong_commands_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "Run `python main.py\n--algo=vdn` first.\n\n```sh\npython main.py --lr=1  # a comment\n"
        "make train ARGS='--algo=qmx'\npython main.py --algo=<name>\n```\n"
    )
    lines = [" ".join(command.parts) for command in commands.find(page)]
    assert lines == [
        "python main.py --lr=1",
        "make train ARGS=--algo=qmx",
        "python main.py --algo=vdn",
    ]
    monkeypatch.undo()
    wrong = [
        ("python", "main.py", "--lr=1"),
        ("python", "benchmarks/none.py"),
        ("python", "benchmarks/book.py", "--nonesuch"),
        ("make", "nonesuch"),
    ]
    assert all(commands.check(commands.Command("page.md", w)) for w in wrong)
    assert not commands.check(commands.Command("page.md", ("make", "train")))


def test_the_site_lists_every_page():
    listed = re.findall(r"^ +- [^:]+: (\w+\.md)$", (book.ROOT / "mkdocs.yml").read_text(), re.M)
    assert sorted(listed) == sorted(path.name for path in (book.ROOT / "docs").glob("*.md"))


def test_the_page_of_metrics_explains_every_column_and_tag():
    page = (book.ROOT / "docs" / "metrics.md").read_text()
    golden = sorted((book.ROOT / "tests" / "golden").glob("*.csv"))
    columns = {name for file in golden for name in file.read_text().split("\n", 1)[0].split(",")}
    assert len(columns) > 15
    assert not [name for name in sorted({*columns, *COLUMNS}) if f"| `{name}` |" not in page]
    assert not [tag for tag in TAGS.values() if f"`{tag}`" not in page]


def test_the_check_needs_no_tensorflow():
    code = (
        "import sys, benchmarks.book, benchmarks.commands; assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=book.ROOT, check=True)
