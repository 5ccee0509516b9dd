"""`check_env`: what it infers, and that every fault is named."""

import contextlib
import dataclasses
import functools
import os
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pool_envs
import pytest
from gymnasium import spaces

import tfmix
from tests.envs.test_adapters import Battle, Idle
from tfmix import cli
from tfmix.config import resolve
from tfmix.envs import check
from tfmix.envs.check import examine
from tfmix.envs.python.workers import handle
from tfmix.errors import UserError
from tfmix.training.task import open_task

HERE = __name__
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_time_for_speed(monkeypatch):
    monkeypatch.setattr(examine, "SPEED_SECONDS", 1e-9)


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """A child would import this module, and TensorFlow with it, for every test."""
    monkeypatch.setattr(check, "pickled", lambda factory: None)


class Pair:
    """A ParallelEnv by interface: two agents draw a number and are paid 1; 4 steps an episode."""

    metadata = {"name": "pair"}
    possible_agents = ["ann", "bob"]

    def __init__(self, *faults):
        self.faults, self.max_cycles, self.episode = faults, 4, 0
        self.buffer, self.closed = np.zeros(2, np.float32), False

    def action_space(self, agent):
        return spaces.Discrete(3 + ("actions" in self.faults and self.episode > 2))

    def observation_space(self, agent):
        return spaces.Box(0, 1, (2,))

    def has(self, fault, step=2):
        return fault in self.faults and self.steps >= step

    def look(self):
        drawn = self.dice.random([2, 2], np.float32)
        seen = dict(zip(self.agents, drawn, strict=False))
        if self.has("nan"):
            seen["ann"] = np.float32([np.nan, 0])
        if self.has("infinite", 0):
            seen["bob"] = np.float32([np.inf, 0])
        if self.has("shape", 3):
            seen["bob"] = np.zeros(3, np.float32)
        if self.has("dtype"):
            seen["bob"] = seen["bob"].astype(np.float64)
        if self.has("bounds"):
            seen["ann"] = np.float32([0, 2])
        if self.has("reused", 0):
            self.buffer[:] = seen["ann"]
            seen["ann"] = self.buffer
        if self.has("unseen"):
            del seen["bob"]
        infos = {agent: {"action_mask": [1, 0, 1]} for agent in self.agents}
        if self.has("illegal"):
            infos["bob"] = {"action_mask": [0, 0, 0]}
        if self.has("mask"):
            infos["bob"] = {"action_mask": [1, 1]}
        return seen, infos

    def reset(self, seed=None, options=None):
        self.steps, self.agents = 0, list(self.possible_agents)
        self.episode += 1
        if "reset" in self.faults:
            raise RuntimeError("no table\nto sit at")
        if "later reset" in self.faults and self.episode == 5:
            raise RuntimeError("worn out")
        if "seed" in self.faults:
            seed = None
        if "seeds" in self.faults:
            seed = 0
        self.dice = np.random.default_rng(seed)
        if "leak" in self.faults and self.episode % 7 == 0:
            self.dice.random()
        return self.look()

    def step(self, actions):
        assert actions["ann"] != 1 or self.has("mask")
        self.steps += 1
        if self.has("step", 3):
            raise ZeroDivisionError("stuck")
        rewards = dict.fromkeys(self.agents, 1.0)
        if self.has("unlike"):
            rewards["ann"] = 2.0
        if self.has("unpaid"):
            del rewards["ann"]
        if self.has("vector"):
            rewards["bob"] = np.ones(2)
        if self.has("nan reward"):
            rewards["bob"] = np.nan
        if self.has("one reward"):
            rewards = 2.0
        limit = {"late": 6, "endless": 999, "short": 2}
        limit = next((n for fault, n in limit.items() if fault in self.faults), 4)
        ends, cuts = (dict.fromkeys(self.agents, end) for end in (False, self.steps >= limit))
        if self.has("flag"):
            cuts["bob"] = None
        seen = self.look()
        if self.steps >= limit or self.has("vanished"):
            self.agents = []
        return seen[0], rewards, ends, cuts, seen[1]

    def state(self):
        return np.full(
            2 + self.has("state size"), np.nan if self.has("state") else float(self.steps)
        )

    def close(self):
        self.closed = True


@pytest.fixture
def in_own_process(monkeypatch):
    """Checks as a user does; for environments whose module imports no TensorFlow."""
    monkeypatch.setattr(check, "pickled", handle.pickled)


def broken(report):
    return {finding.rule for finding in report.violations}


@pytest.mark.parametrize(
    "fault,rule,words",
    [
        ("nan", "finite", ("observation of ann is NaN", "step 2")),
        ("infinite", "finite", ("observation of bob", "episode 1, at its reset")),
        ("state", "finite", ("the state is NaN",)),
        ("nan reward", "finite", ("reward of bob is NaN",)),
        ("shape", "outside", ("of bob", "its shape is [3], not [2]", "episode 1, step 3")),
        ("dtype", "kind", ("of bob changed from float32 [2] to float64 [2]",)),
        ("state size", "shape", ("the state has shape [3], not [2]",)),
        ("illegal", "illegal", ("no legal action for bob", "step 2")),
        ("mask", "mask", ("action mask of bob is [1, 1], not 3 values of 0 and 1",)),
        ("bounds", "outside", ("of ann", "2 at [1] is outside of [0, 1]")),
        ("actions", "space", ("action space of ann, bob changed from Discrete(3)", "at its reset")),
        ("unseen", "unseen", ("no observation for bob",)),
        ("vector", "reward", ("reward of bob is [1. 1.], not one number",)),
        ("one reward", "dict", ("rewards are 2.0, not a dict",)),
        ("unpaid", "unpaid", ("no reward for ann",)),
        ("flag", "flag", ("truncations of bob is None",)),
        ("vanished", "vanished", ("ann, bob left env.agents",)),
        ("late", "late", ("took 6 env steps, its limit is 4 (max_cycles)",)),
        ("endless", "endless", ("at the limit of 4 env steps (max_cycles)",)),
        ("seed", "seed", ("other observations at the reset",)),
        ("leak", "seed", ("other observations at the reset",)),
        ("step", "raised", ("step() raised ZeroDivisionError: stuck", "episode 1, step 3")),
        ("later reset", "raised", ("reset() raised RuntimeError: worn out",)),
    ],
)
def test_a_fault_is_named_where_it_is_first_seen_and_it_alone(fault, rule, words):
    report = tfmix.check_env(lambda: Pair(fault))
    assert broken(report) == {rule} and len(report.violations) == 1 and not report.ok
    for word in words:
        assert word in str(report.violations[0])
    assert report.violations[0].advice in " ".join(str(report).split())


def test_one_fault_does_not_hide_the_others():
    faults = ["nan", "shape", "illegal", "vector", "unpaid", "endless", "flag"]
    report = tfmix.check_env(lambda: Pair(*faults), episodes=3)
    wanted = {"finite", "outside", "illegal", "reward", "unpaid", "endless", "flag"}
    assert broken(report) == wanted and len(report.violations) == len(wanted)


def test_unlike_rewards_break_the_rule_that_all_receive_the_same():
    assert tfmix.check_env(lambda: Pair("unlike")).ok
    report = tfmix.check_env(lambda: Pair("unlike"), team_reward="one")
    assert "the agents receive [2.0, 1.0]" in str(report.violations[0])


def test_what_was_inferred_is_told_with_its_reason():
    env = Pair()
    report = tfmix.check_env(env, time_limit="terminal")
    assert report.ok and not report.warnings and not env.closed
    rows = report.rows
    assert rows["agents"] == "2: ann, bob"
    assert rows["observations"].startswith("2 numbers each; from 0.0")
    assert "3 actions each; masks from action_mask of the info" in rows["actions"]
    assert rows["actions"].endswith("forbid something in 100% of steps")
    assert rows["state"] == "2 numbers, from state(); from 0 to 4"
    assert "(--team_reward=sum); always 2 per step" in rows["reward"]
    assert rows["episodes"] == "20 of 4 env steps; at most 4 (max_cycles)"
    assert "0 terminated, 20 truncated" in rows["ends"] and "does not count" in rows["ends"]
    assert rows["deaths"] == "none before the end"
    assert rows["random team"] == "mean return 8, from 8 to 8"
    assert "env steps a second" in rows["speed"]
    assert max(map(len, str(report).splitlines())) <= 100


def test_a_training_says_where_the_seed_is_ignored(capsys):
    settings = resolve.resolve({"env": "custom/pair", "n_envs": 1, "algo": "vdn"})
    for faults, told in ((), False), (("seed",), True):
        open_task(settings, Pair(*faults))
        said = capsys.readouterr().err
        assert ("ignores its seed: runs are not reproducible" in said) == told


def test_a_deterministic_environment_is_a_warning():
    report = tfmix.check_env(lambda: Pair("seeds"))
    assert report.ok and "every seed gives the same" in str(report.warnings[0])


def test_a_given_limit_ends_what_never_ends_by_itself():
    report = tfmix.check_env(lambda: Pair("endless"), episode_limit=7)
    assert report.ok and report.rows["episodes"] == "20 of 7 env steps; at most 7 (--episode_limit)"
    assert tfmix.check_env(lambda: Pair("short")).ok  # ends before its limit


class Meeting(gymnasium.Env):
    """Two unequal agents; the first dies at step 1."""

    def __init__(self, fault=""):
        self.fault = fault
        self.action_space = spaces.Tuple([spaces.Discrete(2), spaces.Discrete(3)])
        boxes = [spaces.Box(-9, 9, (2, 2)), spaces.Box(-9, 9, (1,))]
        self.observation_space = spaces.Tuple(boxes)

    def look(self):
        return self.np_random.random([2, 2], np.float32), np.float32([self.steps])

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.look(), {}

    def step(self, action):
        self.steps += 1
        reward = 1.0 if self.fault == "number" and self.steps == 2 else [0.0, 1.0]
        reward = [*reward, 0.0] if self.fault == "long" else reward
        return self.look(), reward, [True, self.steps == 3], False, {}


gymnasium.register("Meeting-v1", Meeting, max_episode_steps=9)


def test_unequal_agents_of_gymnasium_that_die_are_told():
    report = tfmix.check_env(f"gymnasium/{HERE}:Meeting-v1")
    assert report.ok
    rows = report.rows
    assert rows["observations"].startswith("4, 1 numbers, padded to 4, flattened from [2, 2]")
    assert rows["actions"] == "2, 3 actions, padded to 3; no masks"
    assert rows["state"].startswith("8 numbers, the concatenated observations")
    assert rows["episodes"].endswith("at most 9 (max_episode_steps as registered)")
    assert rows["deaths"] == "agent 0 in 20 of 20 episodes"
    assert rows["ends"] == "20 terminated, 0 truncated"


@pytest.mark.parametrize(
    "fault,word",
    [("number", "rewards are 1.0"), ("long", "rewards are [0.0, 1.0, 0.0], not a dict")],
)
def test_rewards_of_another_kind_are_named(fault, word):
    report = tfmix.check_env(f"gymnasium/{HERE}:Meeting-v1", env_arg={"fault": fault})
    assert word in str(report.violations[0]) and len(report.violations) == 1


class FaultyBattle(Battle):
    """A PyMARL-style environment; what is wrong comes at step 2."""

    def __init__(self, fault="", **known):
        super().__init__(**known)
        self.wrong = fault
        self.rng = np.random.default_rng()

    def reset(self):
        super().reset()
        if self.wrong == "seed":
            self.spot = self.rng.random()

    def step(self, actions):
        reward, over, info = super().step(actions)
        if self.wrong == "endless":
            over, info = False, {}
        return [reward, reward] if self.wrong == "vector" else reward, over, info

    def get_obs(self):
        rows = super().get_obs()
        return [row[:1] for row in rows] if self.wrong == "size" and self.steps > 1 else rows


def test_a_pymarl_environment_tells_its_masks_state_and_fallen():
    report = tfmix.check_env(f"pymarl/{HERE}:FaultyBattle")
    rows = report.rows
    assert report.ok and rows["agents"] == "3"
    assert "masks from get_avail_actions(), which forbid something in 100%" in rows["actions"]
    assert (
        "from get_state()" in rows["state"]
        and "one number for the team; always 1.5" in rows["reward"]
    )
    assert rows["episodes"].endswith("at most 4 (episode_limit of get_env_info())")
    assert rows["deaths"].startswith("agent 2 in 20 of 20 episodes")


@pytest.mark.parametrize(
    "fault,word",
    [
        ("vector", "the reward is [1.5, 1.5], not one number"),
        ("endless", "at the limit of 4 env steps"),
        ("size", "its shape is [1], not [2]"),
        ("seed", "other observations at the reset"),
    ],
)
def test_faults_of_a_pymarl_environment_are_named(fault, word):
    report = tfmix.check_env(f"pymarl/{HERE}:FaultyBattle", env_arg={"fault": fault})
    assert any(word in str(finding) for finding in report.violations)


class FaultyIdle(Idle):
    """tfmix's own kind with everything wrong that nothing else could find."""

    def __init__(self, *faults):
        super().__init__(3)
        self.faults, self.kept = faults, np.zeros([2, 1])
        if "padding" in faults:
            self.spec = dataclasses.replace(self.spec, agent_n_actions=(2, 1))

    def reset(self, seed):
        self.kept[:] = 0
        return super().reset(seed)

    def step(self, action):
        obs, state, legal, reward, terminated, truncated, info = super().step(action)
        self.kept += 1
        state = np.full(1, np.nan) if "nan" in self.faults else state
        state = np.zeros(4) if "shape" in self.faults else state
        legal = np.zeros([2, 2], bool) if "illegal" in self.faults and self.t == 1 else legal
        reward = [1.0, 1.0] if "vector" in self.faults else reward
        truncated = [truncated] * 2 if "flag" in self.faults else truncated
        truncated = False if "endless" in self.faults else truncated
        given = (obs, state, legal, reward, terminated, truncated, info)
        return given[:6] if "values" in self.faults else given


@pytest.mark.parametrize(
    "faults,rules",
    [
        ("", ""),
        ("nan illegal vector", "finite illegal reward"),
        ("shape endless", "shape endless"),
        ("flag", "flag"),
        ("values", "values"),
        ("padding", "padding"),
    ],
)
def test_an_environment_of_tfmixs_own_kind_is_judged_too(faults, rules):
    report = tfmix.check_env(FaultyIdle(*faults.split()))
    assert broken(report) == set(rules.split()) and report.ok == (not rules)


def test_an_environment_in_the_graph_is_played_and_timed(monkeypatch):
    monkeypatch.setattr(examine, "SPEED_SECONDS", 0.001)
    report = tfmix.check_env("two_step", n_envs=2)
    assert report.ok and [w.rule for w in report.warnings] == ["seeds"]
    assert "with 1 in a batch" in report.rows["speed"] and "with 2" in report.rows["speed"]
    assert report.rows["ends"] == "20 terminated, 0 truncated"


def test_an_environment_that_does_not_compile_is_told(monkeypatch):
    import tensorflow as tf

    from tfmix import envs
    from tfmix.config.schema import Config

    env = envs.make_graph("two_step", Config(env="two_step"))
    step = env.step

    def slow(state, action, seed):
        state, seen = step(state, action, seed)
        return state, seen._replace(
            reward=tf.numpy_function(lambda x: x, [seen.reward], tf.float32)
        )

    monkeypatch.setattr(env, "step", slow)
    report = tfmix.check_env(env, episodes=2)
    assert broken(report) == {"compile"}


def faulty(faults):
    return Pair(*faults.split())


def continuous():
    env = Pair()
    env.action_space = lambda agent: spaces.Box(-1, 1, (2,))
    return env


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs a command line here: its exit code, output and errors."""

    def run(*words):
        return cli.main([*words]), *capsys.readouterr()

    return run


@pytest.mark.parametrize("mode", ["check_env", "train"])
@pytest.mark.parametrize(
    "env,argument,said",
    [
        ("no_such/thing", "", "there is no environment"),
        ("gymnasium/No-Such-v0", "", "Gymnasium has no"),
        ("pettingzoo/json", "", "no parallel_env"),
        (f"pymarl/{HERE}:Nobody", "", "there is no Nobody"),
        (f"{HERE}:continuous", "", "needs discrete actions"),
        (f"{HERE}:faulty", "faults=reset", "RuntimeError: no table to sit"),
        (f"{HERE}:faulty", "colour=red", "cannot be made"),
        (f"{HERE}:faulty", "faults=actions", "the action space of ann changed"),
    ],
)
def test_a_bad_environment_is_one_line_and_exit_code_2(mode, env, argument, said, command):
    words = [f"--env_arg={argument}"] if argument else []
    code, out, err = command(f"--mode={mode}", f"--env={env}", *words)
    if (mode, argument) == ("check_env", "faults=actions"):
        assert code == 1 and "1 violation in" in out and not err  # the check continues
    else:
        assert (code, out, err.count("\n")) == (2, "", 1) and said in err


def test_exit_codes_tell_whether_anything_is_wrong(command):
    words = "--mode=check_env", f"--env={HERE}:faulty"
    code, out, err = command(*words, "--env_arg=faults=")
    assert (code, err) == (0, "") and "nothing wrong in 20 episodes, 80 env steps" in out
    code, out, err = command(*words, "--env_arg=faults=nan illegal")
    assert (code, err) == (1, "") and "2 violations in 20 episodes" in out


def test_no_first_reset_is_refused():
    class Dead(Idle):
        def reset(self, seed):
            raise OSError("gone")

    with pytest.raises(UserError, match="OSError: gone"):
        tfmix.check_env(Dead)


def test_a_python_environment_is_checked_without_tensorflow(tmp_path):
    (tmp_path / "small.py").write_text(
        "from pettingzoo.mpe import simple_spread_v3\n"
        "def make():\n    return simple_spread_v3.parallel_env(max_cycles=2)\n"
    )
    code = (
        "import sys, tfmix.cli; code = tfmix.cli.main(['--mode=check_env', '--env=small:make']);"
        "sys.exit(code or any(m in sys.modules for m in ('tensorflow', 'tf_keras')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "nothing wrong" in done.stdout, done.stderr


def walk(*words, **settings):
    """The report of a `Walk`."""
    return tfmix.check_env(functools.partial(pool_envs.Walk, *words), **settings)


@pytest.mark.parametrize(
    "fault,rule,text",
    [
        ("hang", "hung", "it hung for 1 s in step() (--env_timeout_seconds) [episode 1, step 2]"),
        ("die", "died", "its process died (SIGKILL) in step() [episode 1, step 2]"),
        ("abort", "died", "(SIGABRT) in step(); its last output: a board on fire [episode 1"),
        ("os._exit", "died", "its process ended by itself (exit code 0) in step() [episode 1"),
        ("interrupt", "died", "its process failed: KeyboardInterrupt [episode 1, step 2]"),
        ("sys.exit", "raised", "step() raised SystemExit: 0 [episode 1, step 2"),
        ("fork", "raised", "step() returned twice: the environment forked and played on"),
    ],
)
def test_a_fault_of_the_process_is_a_finding(in_own_process, fault, rule, text):
    report = walk(fault, env_timeout_seconds=1)
    assert rule in broken(report) and text in str(report.violations[-1 if rule != "raised" else 0])
    assert report.rows["agents"] and "nothing wrong" not in str(report)


def test_a_fault_keeps_what_was_found_before_it(in_own_process):
    report = tfmix.check_env(pool_envs.Worsening, env_timeout_seconds=1)
    assert [finding.rule for finding in report.violations] == ["finite", "hung"]
    assert report.violations[1].episode == 3 and report.played.startswith("2 episodes")


@pytest.mark.parametrize(
    "fault,at,text",
    [
        ("hang", pool_envs.BUILD, "hung for 10 s while it was built"),
        ("os._exit", pool_envs.BUILD, "ended by itself (exit code 0) while it was built"),
        ("sys.exit", pool_envs.BUILD, "SystemExit: 0"),
        ("sys.exit", 0, "reset() raised SystemExit: 0"),
        ("die", 0, "died (SIGKILL) in reset()"),
        ("fork", pool_envs.BUILD, "building it returned twice"),
    ],
)
def test_a_fault_before_there_is_a_report_is_one_line(in_own_process, fault, at, text):
    with pytest.raises(UserError) as caught:
        walk(fault, at, env_timeout_seconds=1)
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_a_process_of_its_own_changes_no_report(monkeypatch):
    here = walk()
    monkeypatch.setattr(check, "pickled", handle.pickled)
    there = walk()
    for report in (here, there):
        assert "env steps a second" in report.rows.pop("speed")
    assert here == there


@pytest.mark.parametrize("fault", ["sys.exit", "fork"])
def test_leaving_the_program_is_a_finding_in_this_process_too(fault):
    report = tfmix.check_env(pool_envs.Walk(fault))
    assert broken(report) == {"raised"} and not report.ok
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:  # copies that have ended
            pass


def test_a_close_that_raises_costs_no_report(in_own_process, monkeypatch, capfd):
    assert walk("close").ok
    monkeypatch.setattr(check, "pickled", lambda factory: None)
    assert walk("close").ok
    said = capfd.readouterr().err
    assert said == "tfmix: custom/partial: close() raised OSError: the board is locked\n"
