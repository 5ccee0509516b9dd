"""What goes wrong stops with one line: NaN, memory, wrong words and damaged files."""

import numpy as np
import pytest
import tensorflow as tf

import tfmix
from tests.test_collect import Countdown
from tfmix import checkpoint, config, guard, memory, replay, run, training
from tfmix.config import RunFailedError, UserError

SMALL = {"hidden_size": 8, "mixer_embed": 4, "hypernet_embed": 4, "batch_episodes": 8}
NAN = float("nan")


@pytest.fixture(scope="module")
def trainer():
    """QMIX on two_step, trained for 20 updates."""
    chosen = config.resolve({"algo": "qmix", "env": "two_step", "buffer_episodes": 64, **SMALL})
    spec, make_collector = run.open_env(chosen)
    return training.Trainer(chosen, make_collector, spec)


@pytest.fixture
def fresh(trainer):
    """The trainer started over, some updates done."""
    trainer.reset(0)
    trainer.train_until(96)
    assert trainer.counters.updates > 10
    return trainer


@pytest.fixture
def session(fresh, tmp_path):
    """A run folder with a checkpoint of `fresh`."""
    made = training.Session(fresh, tmp_path, 0.0, lambda: False)
    made.save()
    yield made
    made.close()


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
    with pytest.raises(guard.NotFiniteError, match=r"loss, target.* NaN .*episodes' reward is not"):
        fresh.train_until(100_000)
    for a, b in zip(before, state_of(fresh), strict=True):
        np.testing.assert_array_equal(a, b)
    assert fresh.counters.updates == updates and fresh.env_steps() < 200
    assert fresh.run_iterations.experimental_get_tracing_count() == 1


def test_the_offending_batch_is_left_as_plain_arrays_and_the_last_checkpoint_opens(session):
    trainer = session.trainer
    good = state_of(trainer)
    spoil_rewards(trainer)
    with pytest.raises(RunFailedError, match=r"offending_batch\.npz; the last checkpoint is kept"):
        session.advance(1000)
    with np.load(session.folder / "offending_batch.npz", allow_pickle=False) as found:
        assert np.isnan(found["reward"]).all() and np.isfinite(found["obs"]).all()
        assert found["obs"].shape == (8, 3, 2, 3) and found["mask"].shape == (8, 2)
        assert found["env_steps"] == trainer.env_steps()
        assert found["updates"] == int(trainer.counters.updates)
        # What the update refused is what came again.
        metrics = trainer.learner.update(
            guard.Episode(*(tf.constant(found[name]) for name in guard.Episode._fields)),
            trainer.counters.updates.value(),
            trainer.learning_rate(),
        )
        assert not metrics["applied"] and np.isnan(metrics["loss"])
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
    settings = {"algo": "vdn", "env_steps": 1000, "n_envs": 2, **SMALL}
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
    settings = {"algo": "vdn", "env_steps": 60, "n_envs": 2, "buffer_type": "float16", **SMALL}
    with pytest.raises(RunFailedError, match="obs became NaN or infinite as float16"):
        tfmix.train(Wide(), run_dir=tmp_path / "half", **settings)


@pytest.mark.parametrize("number_type", ["float32", "float16", "uint8"])
def test_the_replays_memory_is_what_was_predicted(number_type, spec):
    for n_envs, capacity in ((4, 10), (8, 3)):
        made = replay.EpisodeReplay(spec, n_envs, capacity, number_type)
        held = sum(v.numpy().nbytes for v in made.variables()) - 8  # a counter
        assert replay.predicted_bytes(spec, n_envs, capacity, number_type) == held


def test_more_memory_than_there_is_is_refused_before_it_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 1_000_000)
    settings = {"algo": "vdn", "env": "two_step", "env_steps": 40, "run_dir": tmp_path / "x"}
    for wrong, message in (
        ({"buffer_episodes": 6000}, r"6,000 episodes needs 1 MB .* smaller --buffer_episodes"),
        ({"n_envs": 10**12}, "smaller --n_envs"),
        ({"eval_episodes": 10**6, "buffer_episodes": 40}, "smaller --eval_episodes"),
    ):
        with pytest.raises(UserError, match=message):
            tfmix.train(**settings, **wrong)
    assert not (tmp_path / "x").exists()
    monkeypatch.setattr(memory, "available_bytes", lambda: None)  # a system that does not say
    memory.check_room(10**18, "a wish", "nothing")


def test_a_large_replay_is_announced(tmp_path, spec, capsys):
    run._announce(config.Config(buffer_episodes=5), spec, tmp_path)
    assert "replay:" not in capsys.readouterr().out
    run._announce(config.Config(buffer_episodes=10**6), spec, tmp_path)
    assert "replay: 1,000,000 episodes, 0.9 GB" in capsys.readouterr().out


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
