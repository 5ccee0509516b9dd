"""tfmix.utils.files: what is opened, read and replaced in a folder that anybody may have filled."""

import contextlib
import os
import signal
import socket

import pytest

from tfmix.utils import files


@pytest.fixture(autouse=True)
def no_hanging():
    """A file that blocks fails the test."""

    def late(*_):
        raise TimeoutError("a file was waited for")

    old = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)


def make(kind, path):
    """Puts something that is no regular file of its own at `path`."""
    other = path.with_name("other")
    other.write_text("{}")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(other)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    else:
        os.link(other, path)
    return other


KINDS = {
    "pipe": "a named pipe",
    "link": "a symbolic link",
    "device": "a symbolic link",
    "folder": "a folder",
    "socket": "a socket",
}


@pytest.mark.skipif(not hasattr(contextlib, "chdir"), reason="from Python 3.11")
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_regular_file_is_neither_read_nor_written(kind, tmp_path):
    path = tmp_path / "x"
    make(kind, path)
    for use in (
        lambda: files.open_regular(path),
        lambda: files.read_text(path),
        lambda: files.open_own(path, os.O_RDWR),
        lambda: files.open_own(path, os.O_WRONLY | os.O_APPEND),
    ):
        with pytest.raises(OSError) as caught:
            use()
        assert KINDS[kind] in caught.value.strerror and caught.value.filename == str(path)


def test_a_device_itself_is_not_opened():
    with pytest.raises(OSError, match="a device"):
        files.open_regular("/dev/zero")


def test_a_large_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "x"
    path.touch()
    os.truncate(path, 10**12)
    with pytest.raises(OSError, match=r"it has 1,000,000,000,000 bytes, and at most 1,048,576"):
        files.read_text(path)


def test_a_file_is_appended_to_only_under_its_only_name(tmp_path):
    other = make("hard link", tmp_path / "x")
    with pytest.raises(OSError, match="a hard link"):
        files.open_own(tmp_path / "x", os.O_WRONLY | os.O_APPEND)
    assert files.read_text(tmp_path / "x") == "{}"  # to read it does no harm
    handle = files.open_own(tmp_path / "new", os.O_WRONLY | os.O_APPEND)
    os.write(handle, b"a")
    os.close(handle)
    assert (tmp_path / "new").read_text() == "a" and other.read_text() == "{}"


@pytest.mark.parametrize("kind", ["pipe", "link", "hard link"])
@pytest.mark.parametrize("name", ["x", ".x"])
def test_a_replaced_file_is_a_new_one(kind, name, tmp_path):
    other = make(kind, tmp_path / name)
    files.write_text(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text() == "new" and other.read_text() == "{}"
    assert not (tmp_path / "x").is_symlink() and not os.path.lexists(tmp_path / ".x")


def test_a_file_that_cannot_be_replaced_stays_as_it_was(tmp_path):
    (tmp_path / "x").write_text("old")
    with pytest.raises(ZeroDivisionError), files.replacing(tmp_path / "x", tmp_path / "y") as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert (tmp_path / "x").read_text() == "old" and not (tmp_path / "y").exists()


@pytest.mark.parametrize(
    "text,message",
    [
        ('{"a": 1, "a": 2}', "twice"),
        ("[NaN]", "not finite"),
        ("[-Infinity]", "not finite"),
        ("[1e999]", "not finite"),
        ("[" * 100_000 + "]" * 100_000, "nested"),
        ("[" + "9" * 5000 + "]", "4300|digits"),
        ("", "Expecting value"),
    ],
)
def test_json_that_two_readers_may_understand_differently_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        files.read_json(text)
    assert files.read_json('{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}


def test_remove_takes_of_a_link_the_link_alone(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    for name in ("link", "kept", "kept"):
        files.remove(tmp_path / name)
        assert not os.path.lexists(tmp_path / name)
        assert name == "kept" or (tmp_path / "kept" / "file").exists()


def test_entries_follow_no_link_and_have_an_end(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert {p.name for p, _ in files.entries(tmp_path)} == {"a", "b", "up"}
    monkeypatch.setattr(files, "MOST_ENTRIES", 2)
    with pytest.raises(OSError, match="more than 2 files"):
        list(files.entries(tmp_path))
