"""Pages, help texts, comments and messages use plain English; CONTRIBUTING says which words."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest
from absl import flags

from tfmix import cli
from tfmix.config.schema import FIELDS

ROOT = Path(__file__).resolve().parent.parent
# Patterns, relative to the repository.
PAGES = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/*.md"]
FLAGFILES = ["flags/*/*.flags"]
CODE = ["benchmarks/*.py", "examples/**/*.py", "tfmix/**/*.py"]
# What is found by a pattern, and what to write for it.
INSTEAD = {
    r"\bbehind\b": "after, below",
    r"\bahead of\b": "before",
    r"\b(is|are|be|was|were|been) told\b": "is reported",
    r"\bstands?\b(?! for|-in)": "is",
    r"\brooms?\b": "memory, capacity",
    r"\bwords\b(?!:)": "text, arguments, terms",
    r"\bof (its|their|your|his|one's|our|my) own\b(?! actions)": "its own ...",
    r"\bgo(es)? on with\b": "continues",
    r"\bcomes? of\b": "results from",
    r"\bbreaks? its word\b": "violates its interface",
    r"\bstep sizes?\b": "learning rate",
    r"\b(way|ways) (back|down|up)\b": "backward pass, decay",
    r"\bside by side\b": "in parallel",
    r"\bchance of a random action\b": "epsilon, the probability of a random action",
    r"\bheld against\b": "compared with",
    r"\blongest gradient\b": "clip gradients to this global norm",
    r"\bas remembered\b": "a source with page or figure, or nothing",
    r"\b(earlier|this|that) commit\b": "a column that names the commit",
    r"\b(slow hour|slower machine)\b": "a column that names the machine",
    r"\b(no longer|used to be|any ?more|ha(s|ve) since)\b": "what it does",
    r"(?<![-\w])now\b": "what it does",
    r"\bso far\b": "what it does",
    r"(?<!there )\b(is|are) no\b(?! longer)": "is not a",
    r"\bof (yours|theirs)\b|\bof the user's\b": "your own, the user's",
    r"\bone a (core|line|run|row)\b": "one per core",
    r"\b(times|rows?|steps|actions?|columns?|lines?) an? (episode|agent|run|core|row|game)\b": (
        "per episode"
    ),
    r"\banew\b": "again",
    r"\bof equal ones\b": "if several are equal",
    r"\bby way of\b": "through",
    r"\bor alike\b": "such as",
    r"\bsettings? (that )?count(s|ed)?\b|\bflagfiles that counted\b": "applies, was read",
    r"\bwhat (is|was) asked for\b": "the request",
}
# Between these two lines a page may show words that are not to be used.
QUOTED = re.compile(r"<!-- language: off -->.*?<!-- language: on -->", re.DOTALL)
FENCE = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)


def found_in(text):
    """What is wrong with a text, a line each."""
    flat = " ".join(text.split())
    for pattern, instead in INSTEAD.items():
        for match in re.finditer(pattern, flat, re.IGNORECASE):
            around = flat[max(match.start() - 40, 0) : match.end() + 40]
            yield f"{match.group()!r} (write: {instead}) in: ...{around}..."


def files(patterns):
    return [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]


def name_for(path):
    return str(path.relative_to(ROOT))


def prose_of(path):
    """The sentences of a page or a flagfile, without code blocks and what QUOTED marks."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".flags":
        return "\n".join(line[1:] for line in text.splitlines() if line.startswith("#"))
    return FENCE.sub("", QUOTED.sub("", text))


def sentences_of(path):
    """Docstrings, messages and comments of a module."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value for part in node.values if isinstance(part, ast.Constant))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.value  # one without a space is a name
    comments = tokenize.generate_tokens(io.StringIO(source).readline)
    yield " ".join(x.string.lstrip("#") for x in comments if x.type == tokenize.COMMENT)


@pytest.mark.parametrize("path", files(PAGES), ids=name_for)
def test_pages_use_plain_english(path):
    assert not list(found_in(prose_of(path)))


def test_comments_of_flagfiles_use_plain_english():
    assert not [(p, line) for p in files(FLAGFILES) for line in found_in(prose_of(p))]


@pytest.mark.parametrize("path", files(CODE), ids=name_for)
def test_docstrings_messages_and_comments_use_plain_english(path):
    assert not [line for text in sentences_of(path) for line in found_in(text)]


def functions_of(path):
    """The functions of a module with a docstring; a property is a noun, and not among them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
            marks = {getattr(x, "id", getattr(x, "attr", "")) for x in node.decorator_list}
            if not marks & {"property", "cached_property"}:
                yield node


def test_docstrings_of_functions_begin_with_an_imperative_verb():
    nouns = {"A", "An", "The", "One", "Whether", "What", "How", "Every", "All"}
    wrong = []
    for path in files(["tfmix/**/*.py", "benchmarks/*.py"]):
        for node in functions_of(path):
            first = ast.get_docstring(node).split()[0]
            third = first.endswith("s") and not first.endswith("ss")
            if third or first in nouns or not first[0].isupper():
                wrong.append(f"{name_for(path)}: {node.name}: {first}")
    assert not wrong


def test_help_texts_use_plain_english():
    values = cli.define(flags.FlagValues())
    texts = [field.metadata["help"] for field in FIELDS.values()]
    texts += [values[name].help for name in values]
    assert not [line for text in texts for line in found_in(text)]


def test_words_are_found_and_the_style_page_names_their_kind():
    assert list(found_in("Rows stand behind the table."))
    assert list(found_in("the\nway back of the unroll"))
    assert not list(found_in("A stand-in stands for the game."))
    assert "language: off" in (ROOT / "CONTRIBUTING.md").read_text()
