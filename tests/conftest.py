"""Imports tfmix before TensorFlow, as a user would; small helpers for all tests."""

import dataclasses
import gc
import os
import resource
import sys
import time
from typing import NamedTuple

# Compiling takes most of the time. XLA without LLVM's optimisations and with its older, smaller
# code for fusions compiles in a third of the time. `make test-all` sets XLA_FLAGS to nothing,
# and compiles as users do.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1",
)

import tfmix  # noqa: F401  (sets what TensorFlow reads when it is imported)
from tfmix.utils.quiet import quiet_import

quiet_import("tensorflow")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402

from tfmix import cli  # noqa: E402
from tfmix.config.schema import Config  # noqa: E402
from tfmix.runs import export, lifecycle, opening, session  # noqa: E402
from tfmix.training.trainer import Trainer  # noqa: E402
from tfmix.types import EnvSpec, Episode  # noqa: E402

# Tracing and optimising graphs take the most time after compiling. Grappler changes no result here,
# and Python's garbage collector looks through all graphs of the process each time.
if os.environ["XLA_FLAGS"]:
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
gc.set_threshold(50_000, 20, 100)

MEMORY: dict[str, float] = {}


def pytest_configure():
    """One thread: tests run in as many processes as there are cores."""
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")


# The files that take longest, the longest first: at the end no process waits for another.
LONG = (
    *("learning", "learner", "golden", "resume", "guards", "algos", "adapters", "main", "run"),
    *("serving", "export"),
    *("training", "experiments", "tf_agents", "check_env", "pool", "networks", "predator_prey"),
)


def pytest_addoption(parser):
    """Adds --part, which saves memory: compiled programs stay until a process ends."""
    parser.addoption("--part", help="n/m: every m-th file of tests, from the n-th on")


def _place(item):
    """Where a test's file is in LONG; after it by name."""
    name = item.path.stem.removeprefix("test_")
    return (LONG.index(name) if name in LONG else len(LONG), name)


@pytest.hookimpl(tryfirst=True)  # before the groups are read
def pytest_collection_modifyitems(config, items):
    """Sorts files by length; a file's tests go to one process, where they share what is compiled.

    Each game is a group with all of its seeds. Each algorithm's learner is a group, too.
    """
    items.sort(key=_place)
    if config.option.part:
        number, parts = map(int, config.option.part.split("/"))
        places = sorted({_place(item) for item in items})
        items[:] = [item for item in items if places.index(_place(item)) % parts == number - 1]
    for item in items:
        group = item.path.name
        if group in ("test_learning.py", "test_learner.py"):
            parameters = item.callspec.params if hasattr(item, "callspec") else {}
            group += str(parameters.get("name", parameters.get("algo", "")))
        item.add_marker(pytest.mark.xdist_group(group))


def pytest_sessionfinish(session):
    """Leaves the largest memory of this process to `pytest_testnodedown`."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["memory"] = used
    else:
        MEMORY.setdefault("this process", used)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Keeps what a worker used."""
    MEMORY[node.gateway.id] = getattr(node, "workeroutput", {}).get("memory", float("nan"))


def pytest_terminal_summary(terminalreporter):
    """Prints the largest memory of each process."""
    shown = ", ".join(f"{name} {used:,.0f} MB" for name, used in MEMORY.items())
    terminalreporter.write_line(f"largest memory: {shown}")


def slow_unless(quick, names):
    """Parameters of a test: all `names`; those that are not in `quick` are slow."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


class Done(NamedTuple):
    """What a command line printed, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def main_py(capsys):
    """Runs a command line of main.py in this process."""

    def run(*words):
        capsys.readouterr()
        return Done(cli.main([*map(str, words)]), *capsys.readouterr())

    return run


# Settings that no compiled function reads, and env_steps unless the learning rate decays.
NOT_COMPILED = {
    **{"seed": 0, "run_dir": "", "log_period_env_steps": 0, "eval_period_env_steps": 1},
    **{"eval_episodes": 1, "checkpoint_period_seconds": 0.0, "checkpoint_period_env_steps": 0},
}


@pytest.fixture(autouse=True)
def collected_garbage():
    """Frees the graphs of a test that compiled; they are cycles, which Python finds late."""
    began = time.process_time()
    yield
    if time.process_time() - began > 2.0:
        gc.collect()


def write_no_policy(algorithm, folder, contract):
    """Stands in for an export: a folder that holds the contract alone."""
    folder.mkdir(exist_ok=True)
    (folder / "contract.json").write_text(contract.as_json())
    return folder


@pytest.fixture(autouse=True)
def light_runs(request, monkeypatch):
    """A run writes no SavedModels, no description for TensorBoard and no inspection.

    They take most of the time of a short run. A test or file marked `whole_run` has them, and so
    has `make test-all`.
    """
    if os.environ["XLA_FLAGS"] and not request.node.get_closest_marker("whole_run"):
        monkeypatch.setattr(export, "export", write_no_policy)
        monkeypatch.setattr(lifecycle, "describe", lambda folder, trainer: None)
        monkeypatch.setattr(session.Session, "inspect", lambda *_: None)


@pytest.fixture(scope="module")
def kept_trainers():
    """What `builds` keeps for the tests of a module."""
    return {}


@pytest.fixture(params=["kept", pytest.param("fresh", marks=pytest.mark.slow)])
def builds(request, monkeypatch, kept_trainers):
    """Trains and resumes with trainers that earlier runs compiled; "fresh": compiles each anew.

    A kept trainer starts over, as `Trainer.reset` promises.
    """

    def build(task):
        config = dataclasses.replace(task.config, **NOT_COMPILED)
        if config.learning_rate_decay == "none":
            config = dataclasses.replace(config, env_steps=1)
        key = (config, task.spec)
        if key not in kept_trainers:
            kept_trainers[key] = Trainer(task)
        trainer = kept_trainers[key]
        trainer.task, trainer.config, trainer.algorithm.config = task, task.config, task.config
        trainer.restart(task.config.seed)
        return trainer

    if request.param == "kept":
        for module in (lifecycle, opening):
            monkeypatch.setattr(module, "Trainer", build)


@pytest.fixture
def spec():
    """A small task with unequal action sets."""
    return EnvSpec(
        name="test",
        n_agents=3,
        n_actions=4,
        obs_size=5,
        state_size=7,
        episode_limit=6,
        agent_n_actions=(4, 4, 3),
    )


@pytest.fixture
def config():
    """Settings that keep networks small."""
    return Config(
        hidden_size=8,
        mixer_embed=6,
        hypernet_embed=9,
        qtran_embed=10,
        central_embed=12,
        duplex_kernels=3,
        duplex_layers=2,
        gamma=0.9,
    )


@pytest.fixture
def batch(spec):
    """Four random episodes of lengths 6, 3, 1 and 6, padding zeroed, legal actions taken."""
    return make_batch(spec)


def make_batch(spec, lengths=(6, 3, 1, 6), seed=0):
    """Random episodes; all but the last end by termination."""
    random = np.random.default_rng(seed)
    b, t, n, a = len(lengths), spec.episode_limit, spec.n_agents, spec.n_actions
    real = np.arange(t) < np.asarray(lengths)[:, None]
    seen = np.arange(t + 1) <= np.asarray(lengths)[:, None]
    own = np.arange(a) < np.asarray(spec.agent_n_actions)[:, None]
    legal = (random.random([b, t + 1, n, a]) < 0.6) & own
    legal[..., 0] = True
    action = np.argmax(np.where(legal, random.random(legal.shape), -1.0), -1)[:, :t]
    terminated = np.zeros([b, t])
    for row, length in enumerate(lengths[:-1]):
        terminated[row, length - 1] = 1.0
    return Episode(
        obs=tf.constant(
            random.normal(size=[b, t + 1, n, spec.obs_size]) * seen[..., None, None], tf.float32
        ),
        state=tf.constant(
            random.normal(size=[b, t + 1, spec.state_size]) * seen[..., None], tf.float32
        ),
        legal=tf.constant(legal & seen[..., None, None]),
        action=tf.constant(action * real[..., None], tf.int32),
        reward=tf.constant(random.normal(size=[b, t]) * real, tf.float32),
        terminated=tf.constant(terminated, tf.float32),
        mask=tf.constant(real, tf.float32),
    )
