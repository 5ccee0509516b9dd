"""What is silenced comes back, whatever the threads do and whichever streams are closed."""

import contextlib
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from tfmix.utils.quiet import quiet

ROOT = Path(__file__).resolve().parents[2]


def streams():
    return [(os.fstat(fd).st_dev, os.fstat(fd).st_ino) for fd in (1, 2)]


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_streams_and_filters_come_back_however_threads_enter_and_leave():
    before, filters, open_before = streams(), list(warnings.filters), open_files()
    first_in, second_in, first_out = (threading.Event() for _ in range(3))

    def first():
        with quiet():
            first_in.set()
            second_in.wait(10)
        first_out.set()

    def second():
        first_in.wait(10)
        with quiet():
            second_in.set()
            first_out.wait(10)
            assert streams() != before

    threads = [threading.Thread(target=target) for target in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert streams() == before and warnings.filters == filters
    assert open_files() == open_before


def test_what_is_raised_inside_passes_and_calls_may_be_nested(capfd):
    before = streams()
    with pytest.raises(ValueError), quiet():
        with contextlib.suppress(KeyError), quiet():
            raise KeyError
        os.write(1, b"unheard")
        assert streams() != before
        raise ValueError
    assert streams() == before
    print("heard")
    assert capfd.readouterr().out == "heard\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_stay_closed(closed, tmp_path):
    found = tmp_path / "found"
    code = (
        "import os\n"
        "from tfmix.utils.quiet import quiet\n"
        "def is_open(fd):\n"
        "    try: return bool(os.fstat(fd))\n"
        "    except OSError: return False\n"
        "before = [is_open(fd) for fd in range(3)]\n"
        "with quiet(): print('unheard')\n"
        "after = [is_open(fd) for fd in range(3)]\n"
        f"open({str(found)!r}, 'w').write(f'{{before == after}}')\n"
    )
    command = ["bash", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code]
    subprocess.run(command, cwd=ROOT, check=True)
    assert found.read_text() == "True"
