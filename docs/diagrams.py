"""Draws the Mermaid diagrams of the pages as SVG, and puts them into the site.

    npm install --prefix /tmp/mermaid --ignore-scripts mermaid@11
    python docs/diagrams.py /tmp/mermaid/node_modules/mermaid/dist/mermaid.min.js

writes docs/images/diagrams/<page>-<number>.svg with a headless Chromium, after a diagram in a
page was changed. mkdocs calls `on_page_markdown`, which shows these files in place of the
Mermaid text, so that the site needs no script from the network. An `accTitle:` line in a
diagram is the image's alternative text. `on_page_content` keeps dates in tables on one line.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
FOLDER = DOCS / "images" / "diagrams"
_BLOCK = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_TITLE = re.compile(r"^ *accTitle: *(.+)$", re.MULTILINE)
_WIDTH = re.compile(r'<svg [^>]*width="(\d+)"')
_PAGE = """<meta charset="utf-8"><body><script src="SCRIPT"></script><script>
mermaid.initialize({startOnLoad: false, htmlLabels: false, theme: "base",
  fontFamily: "DejaVu Sans, Verdana, Arial, sans-serif",
  flowchart: {htmlLabels: false, useMaxWidth: false, padding: 6, nodeSpacing: 16,
    rankSpacing: 26, wrappingWidth: 130, curve: "basis"},
  sequence: {useMaxWidth: false, mirrorActors: false},
  themeVariables: {fontSize: "14px", primaryColor: "#e0f2f1", primaryBorderColor: "#00796b",
    primaryTextColor: "#1c2b2a", lineColor: "#455a64", secondaryColor: "#fff3e0",
    tertiaryColor: "#f5f5f5", noteBkgColor: "#fff3e0", noteBorderColor: "#ef6c00"}});
(async () => {
  const drawn = [];
  for (const [name, text] of SOURCES) {
    const box = document.createElement("div");
    box.innerHTML = (await mermaid.render(name, text)).svg;
    const svg = box.firstElementChild, view = svg.viewBox.baseVal;
    svg.setAttribute("width", Math.ceil(view.width));
    svg.setAttribute("height", Math.ceil(view.height));
    svg.style.cssText = "background:#fff;border-radius:6px";
    drawn.push(new XMLSerializer().serializeToString(svg));
  }
  const out = document.createElement("pre");
  out.id = "drawn";
  out.textContent = JSON.stringify(drawn);
  document.body.append(out);
})();
</script></body>"""


def diagrams_of(page: str, text: str) -> list[tuple[str, str]]:
    """Return the name and the source of each diagram of a page."""
    return [
        (f"{page.removesuffix('.md')}-{number}", block[1])
        for number, block in enumerate(_BLOCK.finditer(text), 1)
    ]


def mark_of(source: str) -> str:
    """Return the comment by which a drawing names its source."""
    return f"<!-- source {hashlib.sha256(source.encode()).hexdigest()[:16]} -->"


def is_current(name: str, source: str) -> bool:
    """Return whether a diagram is drawn as its source says."""
    file = FOLDER / f"{name}.svg"
    return file.is_file() and file.read_text(encoding="utf-8").startswith(mark_of(source))


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Show drawings in place of Mermaid text; mkdocs calls it for every page.

    Raises:
      SystemExit: a drawing is missing or older than its source.
    """
    names = iter(diagrams_of(page.file.src_uri, markdown))

    def image(block: re.Match[str]) -> str:
        name, source = next(names)
        if not is_current(name, source):
            raise SystemExit(f"{name}.svg is older than its text: docs/diagrams.py draws it again")
        title, width = _TITLE.search(source), _WIDTH.search(_read(FOLDER / f"{name}.svg"))
        text = html.escape(title[1] if title else name, quote=True)
        least = f"min-width:{int(width[1]) * 7 // 10}px" if width else ""
        place = f"images/diagrams/{name}.svg"
        return f'<div class="diagram"><img alt="{text}" style="{least}" src="{place}"></div>'

    return _BLOCK.sub(image, markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Mark the cells that hold a date, for site.css; mkdocs calls it for every page."""
    return re.sub(r"<td>(\d{4}-\d\d-\d\d)</td>", r'<td class="date">\1</td>', content)


def draw(script: Path) -> None:
    """Draw all diagrams with mermaid.min.js.

    Raises:
      SystemExit: there is no Chromium, or a diagram has a fault.
    """
    found = [d for file in sorted(DOCS.glob("*.md")) for d in diagrams_of(file.name, _read(file))]
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if browser is None:
        raise SystemExit("there is no Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        text = _PAGE.replace("SCRIPT", script.resolve().as_uri())
        page.write_text(text.replace("SOURCES", json.dumps(found)), encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000"]
        flags += [f"--user-data-dir={folder}/profile", "--enable-logging=stderr", "--dump-dom"]
        done = subprocess.run([browser, *flags, page.as_uri()], capture_output=True, text=True)
    drawn = re.search(r'<pre id="drawn">(.*?)</pre>', done.stdout, re.DOTALL)
    if drawn is None:
        faults = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        raise SystemExit("\n".join(faults) or "Chromium drew nothing")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    for (name, source), svg in zip(found, json.loads(html.unescape(drawn[1])), strict=True):
        text = f"{mark_of(source)}\n{svg}\n"
        (FOLDER / f"{name}.svg").write_text(text, encoding="utf-8")
        print(FOLDER / f"{name}.svg")


def _read(file: Path) -> str:
    """Return the text of a page."""
    return file.read_text(encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit((__doc__ or "").strip())
    draw(Path(sys.argv[1]))
