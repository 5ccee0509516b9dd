"""What goes wrong stops with one line: NaN, memory, wrong words and damaged files."""

import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
import struct
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import tfmix
from benchmarks import fuzz, repeat
from tests.training.test_collect import Countdown, PythonCountdown
from tfmix import envs
from tfmix.config import resolve
from tfmix.config.schema import Config
from tfmix.errors import RunFailedError, UserError
from tfmix.monitoring.metrics_csv import COLUMNS, MetricsFile, cut_metrics
from tfmix.monitoring.tensorboard import TensorBoard, cut_events
from tfmix.runs import checkpoint, folders
from tfmix.runs.lifecycle import _announce
from tfmix.runs.manifest import update_manifest
from tfmix.runs.session import Session
from tfmix.training import finite
from tfmix.training.replay import EpisodeReplay
from tfmix.training.replay_size import HOST, ReplayPlan, capacity, plan_replay, predicted_bytes
from tfmix.training.task import Task, open_task
from tfmix.training.trainer import Trainer
from tfmix.types import EnvSpec
from tfmix.utils import files, memory

SMALL = {"hidden_size": 8, "batch_episodes": 8}
MIXER = {"mixer_embed": 4, "hypernet_embed": 4}
PAIR = {**SMALL, "n_envs": 2, "eval_episodes": 2}
NAN = float("nan")


@pytest.fixture(scope="module")
def trainer():
    """QMIX on two_step, trained for 20 updates."""
    chosen = resolve.resolve(
        {"algo": "qmix", "env": "two_step", "buffer_episodes": 64, **SMALL, **MIXER}
    )
    return Trainer(open_task(chosen))


@pytest.fixture
def fresh(trainer):
    """The trainer started over, some updates done."""
    trainer.restart(0)
    trainer.train_until(96)
    assert trainer.counters.updates > 10
    return trainer


@pytest.fixture
def session(fresh, tmp_path):
    """A run folder with a checkpoint of `fresh`."""
    made = Session(fresh, tmp_path, 0.0, lambda: False)
    made.save()
    yield made
    made.close()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder of VDN on two_step."""
    return fuzz.small_run(tmp_path_factory.mktemp("runs") / "run")


def state_of(trainer):
    """Weights, targets and the optimiser's numbers."""
    algorithm = trainer.algorithm
    variables = [
        *algorithm.live.variables,
        *algorithm.target.variables,
        *trainer.learner.optimizer.variables,
    ]
    return [v.numpy() for v in variables]


def spoil_rewards(trainer):
    """NaN in every reward of the replay, behind the back of what looks at episodes."""
    reward = trainer.replay.variables()[4]
    assert reward.shape == [64, 2]
    reward.assign(tf.fill(reward.shape, NAN))


def test_an_update_that_is_not_finite_changes_nothing_and_ends_the_stretch(fresh):
    spoil_rewards(fresh)
    before, updates = state_of(fresh), int(fresh.counters.updates)
    with pytest.raises(
        finite.NotFiniteError, match=r"loss, target.* NaN .*episodes' reward is not"
    ):
        fresh.train_until(100_000)
    for a, b in zip(before, state_of(fresh), strict=True):
        np.testing.assert_array_equal(a, b)
    assert fresh.counters.updates == updates and fresh.env_steps() < 200
    assert fresh.run_iterations.experimental_get_tracing_count() == 1


def test_the_offending_batch_is_left_as_plain_arrays_and_the_last_checkpoint_opens(session):
    trainer = session.trainer
    good = state_of(trainer)
    spoil_rewards(trainer)
    (session.folder / "letter").write_text("dear")
    (session.folder / "offending_batch.npz").symlink_to(session.folder / "letter")
    with pytest.raises(RunFailedError, match=r"offending_batch\.npz; the last checkpoint is kept"):
        session.advance(1000)
    with np.load(session.folder / "offending_batch.npz", allow_pickle=False) as found:
        assert np.isnan(found["reward"]).all() and np.isfinite(found["obs"]).all()
        assert found["obs"].shape == (8, 3, 2, 3) and found["mask"].shape == (8, 2)
        assert found["env_steps"] == trainer.env_steps()
        assert found["updates"] == int(trainer.counters.updates)
        # What the update refused is what came again.
        metrics, applied = trainer.learner.update(
            finite.Episode(*(tf.constant(found[name]) for name in finite.Episode._fields)),
            trainer.counters.updates.value(),
            trainer.learning_rate(),
        )
        assert not applied and np.isnan(metrics["loss"])
    assert (session.folder / "letter").read_text() == "dear"  # a link is not written through
    checkpoint.restore(checkpoint.latest(session.folder / "checkpoints"), trainer.tensors)
    for a, b in zip(good, state_of(trainer), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_weight_that_is_not_finite_is_named_and_never_saved(session):
    trainer = session.trainer
    weight = trainer.algorithm.live.mixer.trainable_variables[0]
    weight.assign(tf.fill(weight.shape, NAN))
    with pytest.raises(RunFailedError, match=r"not finite before it: weights of mixer; its"):
        session.advance(1000)
    kept = checkpoint.saved(session.folder / "checkpoints")
    with pytest.raises(RunFailedError, match="weights of mixer; no checkpoint is written"):
        session.save()
    assert checkpoint.saved(session.folder / "checkpoints") == kept
    assert checkpoint.latest(session.folder / "checkpoints") == kept[-1]


def test_a_run_folder_that_is_gone_is_told_and_not_made_anew(session, tmp_path):
    tmp_path.rename(tmp_path.with_name("moved"))
    with pytest.raises(RunFailedError, match="was removed or renamed"):
        session.save()
    assert not tmp_path.exists()


class Spoiling(Countdown):
    """NaN on the second real step of every episode longer than one."""

    def _seen(self, clock, length):
        step = super()._seen(clock, length)
        return step._replace(reward=tf.where(clock == 2, NAN, step.reward))


def test_an_environments_nan_stops_the_run_before_anything_is_learned_from_it(tmp_path):
    settings = {"algo": "vdn", "env_steps": 1000, **PAIR}
    with pytest.raises(RunFailedError, match=r"environment's reward became NaN or infinite at 3 "):
        tfmix.train(Spoiling(), run_dir=tmp_path, **settings)
    with np.load(tmp_path / "offending_batch.npz") as found:
        assert np.argwhere(np.isnan(found["reward"]) & (found["mask"] > 0)).tolist() == [[1, 1]]
    assert checkpoint.latest(tmp_path / "checkpoints") is None


class Wide(Countdown):
    def _seen(self, clock, length):
        step = super()._seen(clock, length)
        return step._replace(obs=step.obs + 1e5)


def test_numbers_that_float16_cannot_hold_are_not_stored_as_infinity(tmp_path):
    settings = {"algo": "vdn", "env_steps": 60, "buffer_type": "float16", **PAIR}
    with pytest.raises(RunFailedError, match="obs became NaN or infinite as float16"):
        tfmix.train(Wide(), run_dir=tmp_path / "half", **settings)


class Dicey(PythonCountdown):
    """Observations, states and rewards drawn of the episode's seed."""

    def reset(self, seed):
        self.dice = np.random.default_rng(seed)
        return super().reset(seed)

    def _look(self):
        legal = np.broadcast_to([False, True, True], [2, 3])
        return self.dice.random([2, 1]), self.dice.random([1]), legal


def test_the_same_seed_is_the_same_run_where_python_steps_and_another_seed_another(
    tmp_path, builds
):
    folders = [tmp_path / str(number) for number in range(3)]
    for folder, seed in zip(folders, (3, 3, 4), strict=True):
        settings = {"algo": "vdn", "env_steps": 60, "seed": seed, **PAIR}
        tfmix.train(lambda: Dicey(3), run_dir=folder, **settings)
    assert repeat.differences(*folders[:2]) == []
    assert repeat.likenesses(*folders[1:]) == []
    assert "metrics.csv" in repeat.differences(*folders[1:])
    assert "metrics.csv" in repeat.likenesses(*folders[:2])  # which can fail


@pytest.mark.parametrize("number_type", ["float32", "float16", "uint8"])
def test_the_replays_memory_is_what_was_predicted(number_type, spec):
    for n_envs, episodes in ((4, 10), (8, 3)):
        made = EpisodeReplay(spec, n_envs, episodes, number_type)
        held = sum(v.numpy().nbytes for v in made.variables()) - 8  # a counter
        assert predicted_bytes(spec, n_envs, episodes, number_type) == held


def test_more_memory_than_there_is_is_refused_before_it_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 1_000_000)
    settings = {"algo": "vdn", "env": "two_step", "env_steps": 40, "run_dir": tmp_path / "x"}
    for wrong, message in (
        ({"buffer_episodes": 8000}, r"8,000 episodes needs 1 MB .* smaller buffer_episodes"),
        ({"n_envs": 10**12}, "smaller n_envs"),
        ({"eval_episodes": 10**6, "buffer_episodes": 40}, "smaller eval_episodes"),
    ):
        with pytest.raises(UserError, match=message):
            tfmix.train(**settings, **wrong)
    assert not (tmp_path / "x").exists()
    monkeypatch.setattr(memory, "available_bytes", lambda: None)  # a system that does not say
    memory.check_memory(10**18, "a wish", "nothing")


def test_a_large_replay_is_announced(tmp_path, spec, capsys):
    def announce(episodes):
        config = Config(buffer_episodes=episodes)
        _announce(Task(config, spec, plan_replay(config, spec), None), tmp_path)

    announce(5)
    assert "replay:" not in capsys.readouterr().out
    announce(10**6)
    assert "replay: 1,000,000 episodes, 0.8 GB" in capsys.readouterr().out


def test_with_a_gpu_a_small_replay_is_kept_there_and_a_large_one_with_the_host(spec, monkeypatch):
    settings = Config(buffer_episodes=10**6)
    assert plan_replay(settings, spec).device == HOST  # no GPU
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    monkeypatch.setattr(memory, "available_bytes", lambda: 10**8)
    there = plan_replay(settings, spec)  # which does not ask for the host's memory
    assert there.device == "gpu:0" and there.size > 10**8
    with pytest.raises(UserError, match=r"a replay of 1,000,000 episodes needs 0\.8 GB"):
        plan_replay(dataclasses.replace(settings, gpu_buffer_gb=0.5), spec)


def test_a_replay_that_is_there_is_announced_though_it_took_what_was_free(
    tmp_path, spec, capsys, monkeypatch
):
    monkeypatch.setattr(memory, "available_bytes", lambda: 10**6)
    _announce(Task(Config(), spec, ReplayPlan(10**6, 10**9, HOST), None), tmp_path)
    assert "replay: 1,000,000 episodes" in capsys.readouterr().out


def test_a_cap_on_the_replays_memory_keeps_fewer_episodes_or_says_what_a_batch_needs(spec):
    settings = Config(buffer_episodes=10**6, n_envs=8)
    assert capacity(settings, spec) == 10**6
    capped = dataclasses.replace(settings, buffer_gb=0.001)
    episodes = capacity(capped, spec)
    assert episodes % 8 == 0 and 32 <= episodes < 10**6
    assert predicted_bytes(spec, 8, episodes) <= 1e6
    assert predicted_bytes(spec, 8, episodes + 8) > 1e6
    halved = dataclasses.replace(capped, buffer_type="float16")
    assert episodes < capacity(halved, spec) < 2 * episodes
    few = dataclasses.replace(capped, buffer_episodes=40)
    assert capacity(few, spec) == 40
    with pytest.raises(UserError, match=r"--buffer_gb=1e-05 holds 8 episodes of test, and 32 are"):
        capacity(dataclasses.replace(settings, buffer_gb=1e-5), spec)


def test_available_memory_respects_every_limit_around_the_process(tmp_path):
    def write(name, text):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    assert memory.available_bytes(tmp_path) > 1e8  # of the machine, by way of sysconf
    write("proc/meminfo", "MemTotal:  9000 kB\nMemAvailable:  8000 kB\n")
    assert memory.available_bytes(tmp_path) == 8000 * 1024
    write("proc/self/cgroup", "3:cpu:/x\n2:memory:/job/7\n0::/app/one\n")
    write("sys/fs/cgroup/app/one/memory.max", "max\n")
    write("sys/fs/cgroup/app/one/memory.current", "100\n")
    assert memory.available_bytes(tmp_path) == 8000 * 1024
    write("sys/fs/cgroup/app/memory.max", "7000000\n")
    write("sys/fs/cgroup/app/memory.current", "2000000\n")
    write("sys/fs/cgroup/app/memory.stat", "anon 1\ninactive_file 500000\n")
    assert memory.available_bytes(tmp_path) == 5_500_000
    write("sys/fs/cgroup/memory/memory.limit_in_bytes", "3000000\n")  # 7 is not seen from here
    write("sys/fs/cgroup/memory/memory.usage_in_bytes", "2900000\n")
    write("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 300000\n")
    assert memory.available_bytes(tmp_path) == 400_000


def test_a_run_folder_imports_and_calls_nothing_by_its_own_word(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "theirs")
    (tmp_path / "evil.py").write_text("open('imported', 'w')\n")
    run_json = tmp_path / "theirs" / "run.json"
    about = json.loads(run_json.read_text())
    for env in (
        "os:system",
        "evil:make",
        "pymarl/os:system",
        "pettingzoo/evil",
        "gymnasium/evil:x",
    ):
        about["config"].update(env=env, env_arg=["command=touch called"])
        run_json.write_text(json.dumps(about))
        assert not envs.may_import(env)
    loaded = tfmix.load("theirs")  # acts and exports, but does not play
    assert loaded.act(np.zeros([2, 3])).shape == (2,)
    for use in (lambda: loaded.evaluate(1), lambda: tfmix.resume("theirs", env_steps=80)):
        with pytest.raises(UserError, match=r"names code .* add env='gymnasium/evil:x' if"):
            use()
    for words in (["resume", "--env_steps=80"], ["evaluate"], ["evaluate", "--env=os:system"]):
        before = run_json.read_text()
        assert fuzz.command_line.main(["--run_dir=theirs", f"--mode={words[0]}", *words[1:]]) == 2
        assert run_json.read_text() == before
    with pytest.raises(UserError, match="trained on gymnasium/evil:x, not on os:system"):
        tfmix.load("theirs", env="os:system")
    assert not (tmp_path / "called").exists() and not (tmp_path / "imported").exists()
    with pytest.raises(UserError):  # evil.py registers no environment
        tfmix.load("theirs", env="gymnasium/evil:x").evaluate(1)
    assert (tmp_path / "imported").exists()
    for known in (
        "two_step",
        "pettingzoo/pettingzoo.mpe.simple_spread_v3",
        "gymnasium/x",
        "smac/x",
    ):
        assert envs.may_import(known)


@pytest.mark.whole_run
def test_a_team_is_loaded_and_exported_without_its_game_and_its_replay(
    trained, tmp_path, monkeypatch
):
    shutil.copytree(trained, tmp_path / "run")
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    about["config"].update(env="smac/3m", buffer_episodes=10**9)
    (tmp_path / "run" / "run.json").write_text(json.dumps(about))
    monkeypatch.setattr("tfmix.training.trainer.EpisodeReplay", None)  # would fail if it was made
    run = tfmix.load(tmp_path / "run")
    assert run.finished and run.env_steps == 64
    assert run.act(np.zeros([2, 3])).shape == (2,) and (run.export() / "saved_model.pb").exists()
    with pytest.raises(UserError, match="smac/3m needs the package smac"):
        run.evaluate(1)
    run.close()


def test_a_team_plays_on_a_machine_that_cannot_hold_its_replay(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    about["config"]["buffer_episodes"] = 10**12
    (tmp_path / "run" / "run.json").write_text(json.dumps(about))
    run = tfmix.load(tmp_path / "run")
    assert run.evaluate(4).shape == (4,)
    with pytest.raises(UserError, match="smaller buffer_episodes"):
        tfmix.resume(tmp_path / "run", env_steps=128)


def test_resume_writes_through_no_symbolic_link(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "other").mkdir()
    before = (tmp_path / "run" / "run.json").read_text()
    for name in ("metrics.tmp", ".run.json", "checkpoints/96"):
        link = tmp_path / "run" / name
        link.symlink_to(tmp_path / "other")
        with pytest.raises(UserError, match=rf"{name} is a symbolic link, and a run is not"):
            tfmix.resume(tmp_path / "run", env_steps=128)
        link.unlink()
    assert (tmp_path / "run" / "run.json").read_text() == before
    (tmp_path / "link").symlink_to(tmp_path / "run")  # the folder itself may be one
    assert tfmix.resume(tmp_path / "link").env_steps >= 64


def broken(found):
    """The cases that neither went on nor were refused in one line."""
    return [
        (case, outcome) for case, outcome in found if outcome not in (fuzz.GOES_ON, fuzz.REFUSED)
    ]


def test_a_hundred_command_lines_do_what_they_say_or_are_one_line(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    found = fuzz.fuzz_arguments(100, random.Random("short"), tmp_path)
    assert not broken(found)
    assert {outcome for _, outcome in found} == {fuzz.GOES_ON, fuzz.REFUSED}


@pytest.mark.parametrize("kind", fuzz.FILES)
def test_damaged_files_are_one_line_or_are_read(kind, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "whole")
    assert not broken(fuzz.fuzz_files(kind, 20, random.Random("short"), tmp_path))


@pytest.mark.parametrize(
    "words,message",
    [
        (["--env_steps=" + "9" * 30], "env_steps"),
        (["--hidden_size=1000000"], "65536"),
        (["--double_q=perhaps"], "--double_q=perhaps: write true or false"),
        (["--flagfile={circle}"], "a flagfile includes itself"),
        (["--env=mpe/simple_spread", "--env_arg=n=" + "9" * 20], "from 1 to 500"),
        (["--env=matrix/custom", "--env_arg=payoff=" + "9" * 400], "cannot be made: Overflow"),
        (["--env=two_step", "--run_dir=" + "x" * 5000], "File name too long"),
        (["--mode=benchmark", "--seeds=0:999999999999"], "more than 10,000 seeds"),
        (["--env=\x1b[2Jtwo\nstep"], "there is no environment '\\x1b[2Jtwo\\nstep'"),
        (["\x1b[2Jstray"], r"stray word '\x1b[2Jstray'"),
        (["--flagfile=\x1b[2J"], r"'\x1b[2J'"),
        (["--seed=\x1b[2J"], r"--seed=\x1b[2J: "),
        (["--mode=benchmark", "--algo=vdn", "--jobs=100000"], "a whole number from 1 to 10,000"),
        (["--env=two_step", "--algo=qmix", "--updates_per_episode=1e300"], "updates_per_episode"),
        (["--flagfile={chain}"], "flagfiles are nested more than 100 deep"),
        (["--flagfile=x\0y"], r"cannot read a flagfile, 'x\x00y'"),
        (["--flagfile=~nobody-of-that-name/x"], "cannot read a flagfile"),
        (["--run_dir=x\0y"], r"--run_dir='x\x00y': there is a NUL character in it"),
        (["--compile_cache=x\0y"], r"--compile_cache='x\x00y': there is a NUL character in it"),
        (["--compile_cache=~nobody-of-that-name/x"], "--compile_cache=~nobody-of-that-name/x: "),
        (["--env_timeout_seconds=300000"], "86400"),
    ],
)
def test_numbers_names_and_files_out_of_all_measure_are_one_line(
    words, message, tmp_path, monkeypatch, capsys
):
    circle = tmp_path / "circle"
    circle.write_text(f"--flagfile={circle}\n")
    for number in range(1_400):
        following = f"--flagfile={tmp_path / str(number + 1)}\n"
        (tmp_path / str(number)).write_text(following)
    files = {"{circle}": str(circle), "{chain}": str(tmp_path / "0")}
    for name, file in files.items():
        words = [word.replace(name, file) for word in words]
    assert fuzz.command_line.main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and message in err and "\x1b" not in err


def test_no_run_json_has_settings_that_no_command_line_could_have(trained, tmp_path):
    about = json.loads((trained / "run.json").read_text())
    for part, name, value in (
        ("config", "gamma", 7.0),
        ("config", "hidden_size", 10**9),
        ("config", "optimizer", "magic"),
        ("config", "learning_rate", float("nan")),
        ("spec", "n_agents", "2"),
        ("spec", "n_actions", -1),
        ("spec", "agent_n_actions", [2, 3]),
        ("spec", "team_reward", "all"),
    ):
        non_finite = {**about, part: {**about[part], name: value}}
        (tmp_path / "run.json").write_text(json.dumps(non_finite))
        with pytest.raises(UserError, match=r"run\.json"):
            tfmix.load(tmp_path)


@contextlib.contextmanager
def within(seconds):
    """Fails what takes longer, such as the open of a pipe."""

    def late(*_):
        raise TimeoutError("waited for too long")

    old = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


@pytest.fixture
def theirs(trained, tmp_path):
    """A copy of the run, as a stranger would hand it over."""
    return Path(shutil.copytree(trained, tmp_path / "theirs"))


OURS = (
    *("metrics.tmp", ".run.json", ".cut", ".lock", "run.json", "metrics.csv", ".export-writing"),
    *("checkpoints/.writing", "offending_batch.npz", "events.out.tfevents.1.x"),
    *("evaluations.csv", "evaluations.tmp", ".export_best-writing"),
)


@pytest.mark.parametrize("name", OURS)
def test_a_resume_writes_through_no_hard_link(name, theirs, tmp_path):
    letter, place = tmp_path / "letter", theirs / name
    letter.write_bytes(place.read_bytes() if place.is_file() else b"dear")
    before = letter.read_bytes()
    place.unlink(missing_ok=True)
    os.link(letter, place)
    with pytest.raises(UserError, match=rf"{name} is a hard link, and a run is not resumed"):
        tfmix.resume(theirs, env_steps=128)
    assert letter.read_bytes() == before


@pytest.mark.parametrize("name", ["metrics.tmp", ".run.json", ".cut", "checkpoints/.writing"])
def test_each_writer_leaves_a_hard_link_that_has_the_name_of_its_spare_file(name, theirs, tmp_path):
    letter = tmp_path / "letter"
    letter.write_text("dear")
    os.link(letter, theirs / name)
    cut_metrics(theirs / "metrics.csv", 30)
    cut_events(theirs, 30)
    update_manifest(theirs, 128)
    checkpoint.save(theirs / "checkpoints", tf.train.Checkpoint(x=tf.Variable(1.0)), 99, 1.0)
    assert letter.read_text() == "dear" and not (theirs / name).exists()
    assert checkpoint.latest(theirs / "checkpoints").name == "99"


def test_metrics_are_not_appended_to_a_hard_link(theirs, tmp_path):
    before = (theirs / "metrics.csv").read_text()
    os.link(theirs / "metrics.csv", tmp_path / "letter")
    with pytest.raises(OSError, match="hard link"):
        MetricsFile(theirs / "metrics.csv", list(COLUMNS))
    cut_metrics(theirs / "metrics.csv", 64)  # a new file
    MetricsFile(theirs / "metrics.csv", list(COLUMNS)).close()
    assert (tmp_path / "letter").read_text() == before == (theirs / "metrics.csv").read_text()


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize(
    "name",
    [
        *("run.json", ".lock", "metrics.csv", "checkpoints/64/manifest.json", "evaluations.csv"),
        *("checkpoints/64/tensors.index", "checkpoints/64/tensors.data-00000-of-00001"),
    ],
)
def test_a_pipe_or_a_device_in_the_place_of_a_file_is_one_line(kind, name, theirs):
    place = theirs / name
    place.unlink(missing_ok=True)
    os.mkfifo(place) if kind == "pipe" else place.symlink_to("/dev/zero")
    named = "a named pipe" if kind == "pipe" else "a symbolic link"
    for use in (tfmix.resume, tfmix.load):
        with within(20), pytest.raises(UserError, match=named) as caught:
            use(theirs)
        assert str(caught.value).isprintable()
    with within(20):
        if "checkpoints" in name:
            assert named in checkpoint.verify(theirs / "checkpoints" / "64")
        if name == ".lock":
            with pytest.raises(UserError, match=named), folders.locked(theirs, "a test"):
                pass
        if name == "metrics.csv":
            with pytest.raises(OSError, match=named):
                cut_metrics(place, 64)


def test_a_new_run_does_not_wait_for_a_pipe_that_is_its_lock(tmp_path):
    os.mkfifo(tmp_path / ".lock")
    with within(20), pytest.raises(UserError, match="a named pipe"):
        tfmix.train("two_step", algo="vdn", env_steps=64, run_dir=tmp_path, **fuzz.SMALL)


@pytest.mark.parametrize(
    "name,value,message",
    [
        ("seconds", "much", "seconds are not a duration"),
        ("seconds", NAN, "not finite"),
        ("seconds", -1.0, "seconds are not a duration"),
        ("seconds", 1e308, "seconds are not a duration"),
        ("seconds", True, "seconds are not a duration"),
        ("env_steps", 65, "of another checkpoint"),
        ("env_steps", "64", "of another checkpoint"),
        ("sha256", {}, "names no files"),
        ("sha256", {"../../letter": "0" * 64}, "not a file of a checkpoint"),
        ("sha256", {"tensors.index": ["0"]}, "not a file of a checkpoint"),
        ("sha256", {f"{'/' * n}tensors.index": "0" for n in range(999)}, "not a file of a check"),
        ("sha256", {"tensors.data-00000-of-00001": "0"}, "does not name tensors.index"),
        ("format", True, "damaged"),
    ],
)
def test_a_manifest_that_is_not_this_checkpoints_is_refused(name, value, message, theirs):
    newest = theirs / "checkpoints" / "64"
    manifest = checkpoint.read_manifest(newest) | {name: value}
    (newest / "manifest.json").write_text(checkpoint._text(manifest))
    assert message in checkpoint.verify(newest)
    with pytest.raises(UserError, match=r"all checkpoints .* are damaged"):
        tfmix.load(theirs)


def test_each_file_of_a_checkpoint_is_hashed_once(theirs, monkeypatch):
    hashed, kept = [], checkpoint._sha256
    monkeypatch.setattr(checkpoint, "_sha256", lambda f: hashed.append(f.name) or kept(f))
    assert checkpoint.verify(theirs / "checkpoints" / "64") == ""
    assert sorted(hashed) == ["tensors.data-00000-of-00001", "tensors.index"]


def test_names_that_no_checkpoint_has_are_not_looked_at(theirs):
    place = theirs / "checkpoints"
    for name in ("0064", "9" * 250, "١٢", "64.x"):
        shutil.copytree(place / "64", place / name)
    assert checkpoint.saved(place) == [place / "64"]


def test_a_checkpoint_of_another_moment_of_the_run_is_refused(theirs):
    place = theirs / "checkpoints"
    shutil.copytree(place / "64", place / "80")
    manifest = checkpoint.read_manifest(place / "64") | {"env_steps": 80}
    (place / "80" / "manifest.json").write_text(checkpoint._text(manifest))
    with pytest.raises(UserError, match=r"holds the state at 64 env steps, not at 80: remove"):
        tfmix.load(theirs)


def test_a_checkpoint_larger_than_the_memory_is_refused_before_it_is_read(theirs, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 10**9)
    os.truncate(theirs / "checkpoints" / "64" / "tensors.data-00000-of-00001", 10**13)
    with within(20), pytest.raises(UserError, match=r"10,000\.0 GB of memory and 1\.0 GB are"):
        tfmix.load(theirs)


def test_an_event_that_says_it_is_giant_is_cut_before_tensorflow_believes_it(tmp_path):
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    board = TensorBoard(tmp_path)
    for env_steps in (10, 20, 30):
        board.write(env_steps, {"loss": 1.0})
    board.close()
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    head = struct.pack("<Q", 20_000_000_000)
    file.write_bytes(whole + head + struct.pack("<I", masked_crc32c(head)) + whole)
    os.truncate(file, 20_000_100_000)
    cut_events(tmp_path, 30)
    assert file.read_bytes() == whole
    cut_events(tmp_path, 20)
    assert len(file.read_bytes()) < len(whole)


def test_a_line_of_metrics_without_end_is_set_aside_and_takes_no_memory(theirs):
    path = theirs / "metrics.csv"
    os.truncate(path, 10**11)
    with within(20):
        cut_metrics(path, 64)
    assert not path.exists() and (theirs / "metrics.damaged.csv").exists()


@pytest.mark.parametrize("row", ["1,1,0.5,1", "1,1,,1", "1,1,1,", "-1,1,1,1", "9" * 30 + ",1,1,1"])
def test_a_row_of_metrics_whose_counts_are_none_is_left_out(row, theirs):
    path = theirs / "metrics.csv"
    columns = len(path.read_text().splitlines()[0].split(","))
    with path.open("a") as file:
        file.write(row + "," * (columns - 4) + "\n")
    cell = fuzz.RunSpec(resolve.resolve({"env": "two_step", "run_dir": str(theirs)}), ())
    assert fuzz.table.row_of(cell)["env_steps"] == 64


@pytest.mark.parametrize("fault", ["folder", "lock", "lock replaced"])
def test_a_run_whose_folder_or_lock_is_replaced_stops_and_writes_nothing_there(
    fault, fresh, tmp_path
):
    place = tmp_path / "run"
    with folders.locked(place, "a test"):
        session = Session(fresh, place, 0.0, lambda: False)
        session.report(evaluate=False)
        session.save()
        if fault == "folder":
            place.rename(tmp_path / "own")
            place.mkdir()
        else:
            (place / ".lock").unlink()
        if fault == "lock replaced":
            (place / ".lock").touch()
        before = {p: p.lstat().st_mtime_ns for p in place.rglob("*")}
        for write in (lambda: session.report(evaluate=False), session.save):
            with pytest.raises(RunFailedError, match="was removed or renamed while its run"):
                write()
        session.close()
        assert {p: p.lstat().st_mtime_ns for p in place.rglob("*")} == before


def test_a_lock_that_is_replaced_while_it_is_taken_holds_nothing(tmp_path, monkeypatch):
    def late(path, flags, kept=files.open_own):
        handle = kept(path, flags)
        path.unlink()
        path.touch()
        return handle

    monkeypatch.setattr(files, "open_own", late)
    with pytest.raises(UserError, match="in use"), folders.locked(tmp_path, "a test"):
        pass


@pytest.mark.parametrize(
    "env,argument",
    [
        ("mpe/simple_spread", "n=100000"),
        ("mpe/simple_spread", "local_ratio=true"),
        ("mpe/simple_reference", "max_cycles=1000000"),
        ("gaussian_squeeze/k1", "n=1000000"),
        ("predator_prey/qtran", "size=100000"),
        ("predator_prey/qtran", "penalty=1e308"),
        ("predator_prey/qtran", "penalty=" + "9" * 400),
        ("predator_prey/stag_hunt", "n_stags=100000"),
        ("predator_prey/stag_hunt", "punishment=false"),
        ("matrix/climbing", "max_cycles=" + "9" * 4000),
        ("matrix/climbing", 'max_cycles="' + "x" * 50_000 + '"'),
        ("matrix/custom", "payoff=[[true,1],[1,1]]"),
        ("matrix/custom", 'payoff=[["1","2"],["3","4"]]'),
        ("matrix/custom", "payoff=[[1e30,1],[1,1]]"),
    ],
)
def test_what_sizes_an_environment_is_bounded_before_it_is_built(env, argument, tmp_path):
    asked = {"env": env, "algo": "vdn", "env_arg": [argument], "run_dir": tmp_path / "x"}
    with within(5), pytest.raises(UserError) as caught:
        open_task(resolve.resolve(asked))
    assert (len(str(caught.value)) < 300 and argument.partition("=")[0] in str(caught.value)) or (
        "of memory" in str(caught.value)
    )


@pytest.mark.parametrize(
    "spec,settings,message",
    [
        ({"obs_size": 2**31 - 1}, {"buffer_episodes": 16}, "a replay of 16 episodes needs"),
        ({"state_size": 2**31 - 1}, {"buffer_episodes": 16}, "a replay of 16 episodes needs"),
        ({"n_actions": 2**31 - 1}, {"buffer_episodes": 16}, "a replay of 16 episodes needs"),
        ({"episode_limit": 2**31 - 1}, {"buffer_episodes": 16}, "a replay of 16 episodes needs"),
        ({"obs_size": 10**6}, {"hidden_size": 65536}, "the networks for .* need.* of memory"),
        ({"episode_limit": 0}, {}, "episode_limit is 0"),
        ({"name": "\x1b[2Jx"}, {}, "is not printable"),
        ({"version": "x" * 10**5}, {}, "more than 500 characters"),
    ],
)
def test_a_run_json_cannot_ask_for_more_than_there_is(spec, settings, message, theirs, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 10**9)
    about = json.loads((theirs / "run.json").read_text())
    about["config"].update(env="custom/X", batch_episodes=4, **settings)
    about["spec"].update(spec)
    (theirs / "run.json").write_text(json.dumps(about))
    if "networks" in message:  # which load builds too
        with within(20), pytest.raises(UserError, match=message):
            tfmix.load(theirs)
    shutil.rmtree(theirs / "checkpoints")
    with within(20), pytest.raises(UserError, match=message) as caught:
        tfmix.resume(theirs)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 700


def test_own_actions_take_a_byte_each():
    large = EnvSpec("x", 1000, 10_000, 1, 1, 1, (10_000,) * 999 + (3,))
    assert large.own_actions.nbytes == 10**7 and large.own_actions[-1].sum() == 3


def changed(text, **values):
    """run.json with other values at its top."""
    return json.dumps({**json.loads(text), **values})


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda t: t.replace("{", '{"format": 1, ', 1), "twice"),
        (lambda t: t.replace('"gamma": 0', '"gamma": NaN, "x": 0', 1), "not finite"),
        (lambda t: t.replace('"seed": 0', '"seed": 1e999', 1), "not finite"),
        (lambda t: t.encode("utf-16"), "utf-8"),
        (lambda t: changed(t, x="x" * 2**20), "at most 1,048,576 are read"),
        (lambda t: changed(t, format=9, versions={"tfmix": "\x1b[2J" + "9" * 10**5}), "newer"),
        (lambda t: t.replace('"config": {', '"config": {"\\u001b[2J%s": 1, ' % ("x" * 10**5)), "x"),
        (
            lambda t: t.replace('"env": "two_step"', '"env": "custom/\\u001b[2J"'),
            "is not printable",
        ),
    ],
)
def test_what_a_run_json_says_is_printable_and_short(change, message, theirs):
    found = change((theirs / "run.json").read_text())
    (theirs / "run.json").write_bytes(found if isinstance(found, bytes) else found.encode())
    with pytest.raises(UserError, match=message) as caught:
        tfmix.load(theirs)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 700
