"""Python environments in worker processes: same episodes, no loss, no child left."""

import contextlib
import copy
import functools
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pool_envs
import pytest
import tensorflow as tf
from pool_envs import BUILD, Odd, Rehearsed, Walk

from tfmix import algos, envs
from tfmix.config.schema import Config
from tfmix.envs.python import EnvError
from tfmix.envs.python.workers import pool
from tfmix.envs.python.workers.pool import Pool, count_workers
from tfmix.envs.python.workers.stepper import InProcess
from tfmix.errors import UserError
from tfmix.networks.in_numpy import NumpyTeam
from tfmix.training.collect_python import PythonCollector

ROOT = Path(__file__).resolve().parents[2]
N_ENVS, EPISODES = 5, 7  # a second turn that is not full
SMALL = {"hidden_size": 8, "mixer_embed": 4}


@pytest.fixture(scope="module")
def team():
    """A collector whose actions depend on all that was seen."""
    algorithm = algos.make("qmix", Walk.spec, Config(**SMALL))
    algorithm.init_weights(tf.constant([1, 2]))
    vector_env = InProcess([Walk() for _ in range(N_ENVS)], False)
    return PythonCollector(vector_env, lambda: NumpyTeam.of(algorithm.live.agent))


def open_vector_env(factory, config):
    """What plays the environments of a factory."""
    crew = pool.start(factory, config)
    if crew is None:
        return pool.in_process([factory() for _ in range(config.n_envs)], config)
    crew.open()
    return crew


def make(team, workers, factory=Walk, **settings):
    """The same team over other environments."""
    collector = copy.copy(team)
    names = {"env": "custom/walk", "n_envs": N_ENVS, "env_workers": workers}
    config = Config(**names, **SMALL, **settings)
    collector.vector_env = open_vector_env(factory, config)
    return collector


def play(collector, episodes=EPISODES):
    try:
        return collector.collect([3, 1], 10, 0.3, episodes)
    finally:
        collector.close()


def faulty(*fault, **arguments):
    return functools.partial(Walk, *fault, **arguments)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture(scope="module")
def wanted(team):
    """What every collector has to play."""
    return play(copy.copy(team))


OTHERS = set()  # processes that tests of other files have left to this one


@pytest.fixture(autouse=True, scope="module")
def others():
    OTHERS.update(children())


def children():
    """Processes started by this file, without multiprocessing's own resource tracker."""
    found = []
    for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
        if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            found.append(int(pid))
    return [pid for pid in found if pid not in OTHERS]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_episodes_are_the_same_whoever_steps(team, wanted, workers):
    collector = make(team, workers)
    assert isinstance(collector.vector_env, Pool) and len(children()) == workers
    assert same(play(collector), wanted)
    assert children() == [] and collector.restarts == 0
    collector.close()
    lengths = wanted.mask.sum(-1)
    assert len(set(lengths)) > 1 and not same(wanted.obs[:1], wanted.obs[1:2])


@pytest.mark.parametrize("fault,words", [("die", "died (SIGKILL)"), ("raise", "off the board")])
def test_a_worker_that_fails_is_replaced_and_its_episodes_are_the_same(
    team, wanted, tmp_path, capfd, fault, words
):
    collector = make(team, 2, factory=faulty(fault, once=str(tmp_path / "once")))
    assert same(play(collector), wanted)
    line = capfd.readouterr().err
    assert collector.restarts == 1 and words in line and "1 of at most 10" in line
    assert line.count("\n") == 1 and children() == []


def test_a_hanging_worker_is_replaced_and_one_that_raises_in_reset_too(team, wanted, tmp_path):
    faults = [
        faulty("hang", once=str(tmp_path / "a")),
        faulty("raise", 0, once=str(tmp_path / "b")),
    ]
    for factory in faults:
        collector = make(team, 1, factory=factory, env_timeout_seconds=1.5)
        assert same(play(collector), wanted) and collector.restarts == 1
    assert children() == []


def test_a_worker_killed_between_collections_is_replaced(team, wanted):
    collector = make(team, 2)
    for pid in children():
        os.kill(pid, signal.SIGKILL)
    assert same(play(collector), wanted) and collector.restarts == 2


def test_an_environment_that_always_raises_stops_with_one_line(team):
    collector = make(team, 1, faulty("raise"), max_worker_restarts=2)
    with pytest.raises(EnvError, match=r"walk: .* ValueError: off the board; .* failed 3 times"):
        play(collector)
    assert collector.restarts == 2 and children() == []


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "fault,words",
    [
        ("nan", "walk: agent right's observation is NaN or infinite at step 1 of the episode"),
        ("legal", "walk: agent left has no legal action at step 1 of the episode"),
        ("reward", "walk: the reward is NaN or infinite at step 1 of the episode"),
        ("shape", r"walk: obs at step 1 of the episode is not \[2, 2\] numbers: its shape is"),
    ],
)
def test_what_an_environment_must_not_give_is_named(team, workers, fault, words):
    collector = make(team, workers, faulty(fault, at=1))
    with pytest.raises(EnvError, match=words):
        play(collector, 2)
    assert collector.restarts == 0 and children() == []


def test_workers_know_no_tensorflow_and_take_one_thread(team):
    played = play(make(team, 1, faulty("tensorflow", at=0)), 1)
    np.testing.assert_array_equal(played.state[0, 0], [1, 1, 1, 0])
    assert "OMP_NUM_THREADS" not in os.environ or os.environ["OMP_NUM_THREADS"] != "1"


def test_workers_find_a_module_of_the_current_directory(team, wanted, tmp_path, monkeypatch):
    (tmp_path / "my_walk.py").write_text("from pool_envs import Walk\n")
    monkeypatch.chdir(tmp_path)
    name = "my_walk:Walk"
    factory = functools.partial(envs.make_python, name, Config(env=name))
    assert same(play(make(team, 2, factory)), wanted)


def test_environments_that_cannot_be_built_are_refused_in_one_line(team):
    with pytest.raises(
        UserError, match=r"^custom/walk: building it raised RuntimeError: no board to walk on$"
    ):
        make(team, 2, factory=faulty("build"))
    with pytest.raises(UserError, match="hung for 1 s while it was built"):
        make(team, 1, factory=functools.partial(time.sleep, 60), env_timeout_seconds=0.1)
    assert children() == []


def test_a_factory_that_cannot_be_sent_is_stepped_here(team, wanted, capfd):
    collector = make(team, 2, factory=lambda: Walk())
    assert isinstance(collector.vector_env, InProcess) and same(play(collector), wanted)
    line = capfd.readouterr().err
    assert "walk cannot be built in other processes" in line and line.count("\n") == 1


def test_the_number_of_workers_is_that_of_the_cores_at_most_n_envs():
    cores = len(os.sched_getaffinity(0))
    assert count_workers(Config(n_envs=1)) == 1 and count_workers(Config(n_envs=1000)) == cores
    assert count_workers(Config(n_envs=4, env_workers=16)) == 4
    assert count_workers(Config(env_workers=0)) == 0


def script(tmp_path, text):
    file = tmp_path / "script.py"
    file.write_text(textwrap.dedent(text))
    return [sys.executable, str(file)]


def test_a_script_without_a_guard_is_one_line(tmp_path):
    # Its first start reaches the workers without TensorFlow, which would take seconds.
    command = script(
        tmp_path,
        f"""
        import os, sys, tfmix
        sys.path.append({str(ROOT / "tests" / "envs")!r})
        from tfmix.config.schema import Config
        from tfmix.envs.python.workers import pool
        from pool_envs import Walk
        train = tfmix.train if tfmix.WORKER in os.environ else pool.start
        train(Walk, Config(n_envs=2))
        """,
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 1 and done.stderr.count("Traceback") == 1  # the script's own
    assert '`if __name__ == "__main__":`' in done.stderr.splitlines()[-1]


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def test_workers_do_not_outlive_a_killed_parent(tmp_path):
    pids = tmp_path / "pids"
    pids.mkdir()
    command = script(
        tmp_path,
        f"""
        import functools, sys, time
        sys.path.append({str(ROOT / "tests" / "envs")!r})
        from tfmix.config.schema import Config
        from tfmix.envs.python.workers import pool
        import pool_envs
        if __name__ == "__main__":
            factory = functools.partial(pool_envs.pid_of, {str(pids)!r})
            vector_env = pool.start(factory, Config(n_envs=2, env_workers=2))
            vector_env.open()
            time.sleep(60)
        """,
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen(command, cwd=tmp_path, env=env)
    found = wait_for(lambda: len(list(pids.iterdir())) == 2 and list(pids.iterdir()))
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(Path("/proc", pid.name).exists() for pid in found), 10)


def in_group(name):
    """Ids of processes with an argument `name`."""
    found = []
    for pid in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if pid.name.isdigit() and name.encode() in (pid / "cmdline").read_bytes().split(b"\0"):
                found.append(int(pid.name))
    return found


@pytest.mark.parametrize(
    "kind,fault,at,text",
    [
        (Walk, "hang", BUILD, "hung for 5 s while it was built (--env_timeout_seconds)"),
        (Walk, "die", BUILD, "died (SIGKILL) while it was built"),
        (Walk, "abort", BUILD, "died (SIGABRT) while it was built; its last output: a board on"),
        (Walk, "os._exit", BUILD, "ended by itself (exit code 0) while it was built"),
        (Walk, "sys.exit", BUILD, "custom/walk: building it raised SystemExit: 0"),
        (Walk, "interrupt", BUILD, "KeyboardInterrupt"),
        (Walk, "pipe", BUILD, "BrokenPipeError"),
        (Walk, "unspeakable", BUILD, "UnspeakableError that cannot be shown"),
        (Walk, "fork", BUILD, "building it returned twice: the environment forked"),
        (Rehearsed, "hang", 0, "hung for 0.5 s in reset() (--env_timeout_seconds)"),
        (Rehearsed, "die", 0, "died (SIGKILL) in reset()"),
        (Rehearsed, "sys.exit", 0, "custom/walk: reset() raised SystemExit: 0"),
    ],
)
def test_a_fault_while_an_environment_is_built_is_one_line(kind, fault, at, text):
    config = Config(env="custom/walk", n_envs=2, env_workers=2, env_timeout_seconds=0.5)
    begin = time.monotonic()
    with pytest.raises(UserError, match=re.escape(text)) as caught:
        open_vector_env(functools.partial(kind, fault, at), config)
    assert "\n" not in str(caught.value) and children() == []
    assert time.monotonic() - begin < 20


@pytest.mark.parametrize(
    "fault,text",
    [
        ("sys.exit", "raised SystemExit: 0"),
        ("os._exit", "ended by itself (exit code 0) in "),
        ("abort", "died (SIGABRT) in "),
        ("interrupt", "failed: KeyboardInterrupt"),
        ("generator", "raised GeneratorExit"),
        ("pipe", "failed: BrokenPipeError"),
        ("end of file", "failed: EOFError"),
        ("unspeakable", "failed: UnspeakableError: <"),
        ("big", "failed: ValueError: \\x1b[2Jxxx"),
    ],
)
def test_what_a_worker_fails_of_is_reported_as_what_it_is(
    team, wanted, tmp_path, capfd, fault, text
):
    collector = make(team, 1, faulty(fault, once=str(tmp_path / "once")))
    assert same(play(collector), wanted) and collector.restarts == 1
    line = capfd.readouterr().err
    assert text in line and line.count("\n") == 1 and len(line) < 1000 and children() == []


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("at,call", [(0, "reset"), (2, "step")])
def test_an_environment_that_forks_and_plays_on_is_named(team, workers, at, call):
    collector = make(team, workers, faulty("fork", at))
    with pytest.raises(
        EnvError, match=rf"^walk: {call}\(\) returned twice: the environment forked"
    ):
        for _ in range(3):  # a copy that is slow is seen later
            collector.collect([3, 1], 10, 0.3, EPISODES)
            time.sleep(0.1)
    left = children()
    assert left == [] or workers == 0
    for pid in left:  # copies that have ended
        assert os.waitpid(pid, 0)[0] == pid


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "name,value,text",
    [
        ("legal", np.full([2, 3], np.nan), "legal at step 1 .* nan.*, expected 0 or 1"),
        ("legal", [["True"] * 3] * 2, "legal at step 1 .* it is of <U4"),
        ("legal", np.full([2, 3], 2), "legal at step 1 .* expected 0 or 1 everywhere"),
        ("obs", np.ones([2, 2], complex), "obs at step 1 .* it is of complex128"),
        ("state", np.array([None] * 4), "state at step 1 .* it is of object"),
        ("terminated", "False", "terminated at step 1 .* is 'False', expected one True or"),
        ("truncated", [False, True], r"truncated at step 1 .* is \[False, True\], expected"),
        ("terminated", 0.5, "terminated at step 1 .* is 0.5, expected"),
        ("reward", "1.5", "the reward at step 1 .* is not one number: it is '1.5'"),
        ("reward", 1 + 2j, r"the reward at step 1 .* is not one number: it is \(1\+2j\)"),
        ("reward", [1.0, 2.0], r"the reward at step 1 .* is not one number: it is \[1.0, 2.0\]"),
    ],
)
def test_values_of_another_kind_are_refused(team, workers, name, value, text):
    collector = make(team, workers, functools.partial(Odd, name, value))
    with pytest.raises(EnvError, match=f"walk: {text}"):
        play(collector)
    assert collector.restarts == 0


def test_numbers_in_any_fitting_form_are_taken(team):
    forms = [
        ("legal", [[1, 1, 0], [1.0, 0, 1]]),
        ("reward", np.ones([1])),
        ("reward", np.float32(1)),
        ("reward", True),
        ("terminated", np.bool_(True)),
        ("truncated", np.array([1])),
        ("obs", [[1, 2], [3, 4]]),
    ]
    for name, value in forms:
        play(make(team, 0, functools.partial(Odd, name, value)), 2)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_close_that_raises_costs_nothing(team, wanted, capfd, workers):
    assert same(play(make(team, workers, faulty("close"))), wanted)
    line = capfd.readouterr().err
    assert workers or line == "tfmix: walk: close() raised OSError: the board is locked\n"


def test_no_files_left_is_one_line_and_no_process_stays():
    code = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
sys.path.append({str(ROOT / "tests" / "envs")!r})
import multiprocessing
from tfmix.config.schema import Config
from tfmix.errors import UserError
from tfmix.envs.python.workers import pool
from pool_envs import Walk
try:
    pool.start(Walk, Config(n_envs=64, env_workers=64))
except UserError as error:
    print(error)
print(len(multiprocessing.active_children()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=100
    )
    said, left = done.stdout.splitlines()
    assert "cannot start 64 processes for environments: Too many open files" in said
    assert "--env_workers" in said and left == "0" and not done.stderr


def test_the_longest_timeout_does_not_overflow(team, wanted):
    assert same(play(make(team, 1, env_timeout_seconds=1e9)), wanted)


def test_a_left_child_ends_with_the_worker(team):
    assert not in_group(pool_envs.CHILD_SECONDS)
    collector = make(team, 2, faulty("child", BUILD))
    wait_for(lambda: len(in_group(pool_envs.CHILD_SECONDS)) == N_ENVS)
    begin = time.monotonic()
    collector.close()
    assert not in_group(pool_envs.CHILD_SECONDS) and time.monotonic() - begin < 4
