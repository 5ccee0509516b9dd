"""tfmix.text: what is printed of errors, names and files."""

from tfmix import text


class UnspeakableError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


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
