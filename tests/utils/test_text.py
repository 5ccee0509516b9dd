"""tfmix.utils.text: what is printed of errors, names and files."""

import io
import sys

import pytest

from tfmix.monitoring.progress import Progress, progress_bar
from tfmix.utils import text


class UnspeakableError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def test_counted_has_one_or_several():
    assert text.counted(1, "run") == "1 run" and text.counted(0, "run") == "0 runs"
    assert text.counted(2000, "episode") == "2,000 episodes"


def test_clean_folds_whitespace_and_shows_control_characters():
    assert text.clean("a\n b\t\x1b[2Jc\x00") == "a b \\x1b[2Jc\\x00"


def test_clean_cuts_long_text():
    assert text.clean("x" * 10_000_000, most=10) == "xxxxxxx..."
    assert text.clean("x" * 10, most=10) == "x" * 10
    assert len(text.clean("\x1b" * 10_000, most=50)) == 50


def test_clean_survives_an_object_whose_str_raises():
    assert text.clean(UnspeakableError()) == "<UnspeakableError that cannot be shown>"


def test_of_error_names_the_type_with_and_without_a_message():
    assert text.of_error(KeyError("x")) == "KeyError: 'x'"
    assert text.of_error(GeneratorExit()) == "GeneratorExit"
    assert (
        text.of_error(UnspeakableError())
        == "UnspeakableError: <UnspeakableError that cannot be shown>"
    )


class Gone(io.StringIO):
    """A stream whose reader has gone away."""

    def write(self, *_):
        raise BrokenPipeError

    flush = write


@pytest.mark.parametrize("kind", ["none", "gone", "closed"])
def test_what_cannot_be_printed_is_dropped(kind, monkeypatch):
    stream = {"none": None, "gone": Gone(), "closed": io.StringIO()}[kind]
    if kind == "closed":
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "stdout", stream)
    text.tell("unheard")
    text.show("unheard")
    assert not text.Lossy(stream).isatty()
    bar = progress_bar()
    bar.start()
    bar.console.print("unheard")
    bar.stop()
    with Progress(10, 0) as progress:
        progress.update(10, {"env_steps_per_second": 1.0, "epsilon": 0.5})


def test_what_an_encoding_lacks_is_written_by_its_number(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii"))
    text.show("r\u00e9sum\u00e9 \udcff")
    assert raw.getvalue() == b"r\\xe9sum\\xe9 \\udcff\n"
