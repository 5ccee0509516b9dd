"""The site of the pages: its diagrams are drawn, and it asks the network for nothing."""

import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))

import diagrams  # noqa: E402

PAGES = sorted(DOCS.glob("*.md"))
FOUND = [d for page in PAGES for d in diagrams.diagrams_of(page.name, page.read_text())]


@pytest.mark.parametrize("name,source", FOUND, ids=[name for name, _ in FOUND])
def test_diagram_is_drawn_as_its_text_says_and_needs_nothing_else(name, source):
    assert diagrams.is_current(name, source), "docs/diagrams.py draws it again"
    text = (DOCS / "images" / "diagrams" / f"{name}.svg").read_text()
    drawing = ET.fromstring(text)
    tags = {element.tag.rpartition("}")[2] for element in drawing.iter()}
    assert not {"script", "image", "foreignObject"} & tags
    assert not re.search(r"(href|src)=[\"'](?!#)|url\((?!#)|@import", text)
    title = re.search(r"accTitle: *(.+)", source)[1]
    assert title in "".join(drawing.itertext())


def test_no_drawing_is_left_without_its_text():
    names = {file.stem for file in (DOCS / "images" / "diagrams").iterdir()}
    assert names == {name for name, _ in FOUND}


def test_pages_show_the_drawings():
    page = DOCS / "architecture.md"
    given = SimpleNamespace(file=SimpleNamespace(src_uri=page.name))
    shown = diagrams.on_page_markdown(page.read_text(), page=given)
    assert "```mermaid" not in shown and shown.count('<div class="diagram"><img alt="') == 2
    assert 'src="images/diagrams/architecture-2.svg"' in shown
    changed = page.read_text().replace("Trainer", "Teacher")
    with pytest.raises(SystemExit, match=r"architecture-2\.svg is older than its text"):
        diagrams.on_page_markdown(changed, page=given)


def test_the_site_loads_no_fonts_and_scripts_from_elsewhere():
    settings = (ROOT / "mkdocs.yml").read_text()
    assert "font: false" in settings and "http" not in settings.replace("#", "")
    assert "http" not in (DOCS / "site.css").read_text()
