"""Runs the peers' side of `peers.py`: times their code in their interpreter.

  python peers_side.py serve PEER CHECKOUT        a server, see below
  python peers_side.py script CHECKOUT ALGO MARKS EVERY ARGUMENTS...   one of JaxMARL's scripts

It does not import tfmix. A server reads orders, one line of JSON each, from its standard input,
and answers each with a line of JSON: `{"do": "make", "name": ..., ...}` prepares and warms a case
(the answer is only its duration), `{"do": "time", "name": ...}` measures it once. What the peer
prints goes to standard error. The timed code is the checkout's; this script provides inputs,
sizes and clocks.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import logging
import os
import queue
import runpy
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

Case = Callable[[], dict[str, float]]
PATIENCE_SECONDS = 300


def load_module(path: Path) -> Any:
    """Return a Python file as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def no_wandb(log: Callable[[dict[str, Any]], None] = lambda metrics: None) -> None:
    """Put something in the place of wandb that does nothing but call `log`."""
    wandb: Any = ModuleType("wandb")
    wandb.__spec__ = importlib.util.spec_from_loader("wandb", None)
    wandb.init = lambda **_: None
    wandb.log = log
    sys.modules["wandb"] = wandb


def seconds_of(call: Callable[[], Any]) -> float:
    """Return how long a call takes; it must wait for what it computes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


class CapturedError(Exception):
    """Ends a run of the peer's where what was sought has been found."""


class Jaxmarl:
    """JaxMARL's Q-learning scripts, `baselines/QLearning/ALGO_rnn.py`.

    Orders:
      update: algo, agents, actions, obs, state, rows, count; the script's own update,
        its batch given. Times `in_loop`, seconds of one of `count` inside of a compiled
        scan, and `per_call`.
      train: algo, n_envs, updates an iteration, learn, steps; the script's whole training
        of simple_spread by the difference between a short run and one that is `steps`
        env steps longer. Times `rate`, env steps a second.
    """

    def __init__(self, checkout: Path):
        no_wandb()
        sys.path.insert(0, str(checkout))
        import jax
        from omegaconf import OmegaConf

        self.jax, self.folder = jax, checkout / "baselines" / "QLearning"
        shipped = OmegaConf.load(self.folder / "config" / "alg" / "ql_rnn_mpe.yaml")
        self.shipped = dict(OmegaConf.to_container(shipped))
        self.versions = {"jax": jax.__version__}

    def script(self, algo: str) -> Any:
        """Return the script of an algorithm."""
        return load_module(self.folder / f"{algo}_rnn.py")

    def settings(self, **changed: Any) -> dict[str, Any]:
        """Return the shipped configuration of the particle environments, a few settings changed."""
        off = {"WANDB_MODE": "disabled", "TEST_DURING_TRAINING": False}
        return {**self.shipped, **off, **changed}

    def make_train(self, order: dict[str, Any]) -> Case:
        """Return a whole training."""
        jax, script = self.jax, self.script(order["algo"])
        n_envs, limit = order["n_envs"], self.shipped["NUM_STEPS"]
        widest, batch = n_envs * limit, self.shipped["BUFFER_BATCH_SIZE"]
        # Learning starts when every environment has filled `batch` rows of the replay.
        short = (max(batch, self.shipped["LEARNING_STARTS"] // widest) + 10) * widest
        extra = max(order["steps"] // widest, 1) * widest
        keys = jax.random.split(jax.random.PRNGKey(0), 1)

        def run(steps: int) -> Callable[[], Any]:
            config = self.settings(
                TOTAL_TIMESTEPS=steps,
                NUM_ENVS=n_envs,
                NUM_EPOCHS=order["updates"],
                BUFFER_SIZE=max(self.shipped["BUFFER_SIZE"], batch * n_envs),
            )
            if not order["learn"]:
                config["LEARNING_STARTS"] = 10**9
            env, _ = script.env_from_config(config)
            train = jax.jit(jax.vmap(script.make_train(config, env)))
            compiled = train.lower(keys).compile()
            return lambda: jax.block_until_ready(compiled(keys))

        runs = run(short), run(short + extra)
        state = runs[0]()["runner_state"][0]
        assert (int(state.grad_steps[0]) > 0) == order["learn"]

        def timed() -> dict[str, float]:
            shorter, longer = map(seconds_of, runs)
            return {"rate": extra / (longer - shorter)}

        return timed

    def make_update(self, order: dict[str, Any]) -> Case:
        """Return one update, caught on its way into the script's scan over updates."""
        jax, script = self.jax, self.script(order["algo"])
        config = self.settings(
            TOTAL_TIMESTEPS=10**6,
            NUM_ENVS=8,
            NUM_STEPS=order["rows"],
            LEARNING_STARTS=0,
            MIXER_HYPERNET_HIDDEN_DIM=64,
        )
        env = script.LogWrapper(make_stand_in(order))
        batch: dict[str, Any] = {}
        script.fbx = SimpleNamespace(
            make_trajectory_buffer=lambda **_: given_batch(batch, config, order)
        )
        scan, caught = jax.lax.scan, {}

        def catching(f: Any, init: Any, *args: Any, **kwargs: Any) -> Any:
            if getattr(f, "__name__", "") in ("_update_step", "_learn_phase"):
                caught[f.__name__] = f, init
                raise CapturedError
            return scan(f, init, *args, **kwargs)

        jax.lax.scan = catching
        try:
            run_to_capture(lambda: script.make_train(config, env)(jax.random.PRNGKey(0)))
            iterate, runner = caught["_update_step"]
            run_to_capture(lambda: iterate(runner, None))
            learn, _ = caught["_learn_phase"]
        finally:
            jax.lax.scan = scan

        def some(train_state: Any, key: Any, given: Any, count: int) -> Any:
            def body(policy_state: Any, _: Any) -> Any:
                # A batch that the loop seems to change, as one from a replay would: with a
                # fixed one the compiler moves the whole target unroll out of the loop.
                batch["now"], policy_state = jax.lax.optimization_barrier((given, policy_state))
                policy_state, (loss, _) = learn(policy_state, None)
                return policy_state, loss

            (train_state, _), loss = scan(body, (train_state, key), None, count)
            return train_state, loss

        def one(train_state: Any, key: Any, given: Any) -> Any:
            batch["now"] = given
            (train_state, _), (loss, _) = learn((train_state, key), None)
            return train_state, loss

        many, single, count = jax.jit(some, static_argnums=3), jax.jit(one), order["count"]
        given = jax.tree.map(jax.numpy.asarray, batch["first"])
        about = [runner[0], jax.random.PRNGKey(1)]

        def in_loop() -> None:
            about[0], loss = many(*about, given, count)
            assert np.isfinite(np.asarray(loss)).all()

        def per_call() -> None:
            for _ in range(count):
                about[0], _ = single(*about, given)
                jax.block_until_ready(about[0])

        for warm in (in_loop, per_call):
            warm()
            warm()  # the state that comes back may need another compilation
        return lambda: {
            "in_loop": seconds_of(in_loop) / count,
            "per_call": seconds_of(per_call) / count,
        }


def run_to_capture(call: Callable[[], Any]) -> None:
    """Run the peer until it is caught."""
    try:
        call()
    except CapturedError:
        return
    raise RuntimeError("the script has no such scan: another commit of JaxMARL?")


def make_stand_in(order: dict[str, Any]) -> Any:
    """Return a task of the order's sizes for JaxMARL's scripts, with a separate state."""
    import jax
    from jaxmarl.environments.multi_agent_env import MultiAgentEnv, State
    from jaxmarl.environments.spaces import Box, Discrete

    class SmaxStandIn(MultiAgentEnv):  # of this name its rollout manager takes `world_state`
        """Noise."""

        def __init__(self) -> None:
            super().__init__(order["agents"])
            self.observation_spaces = {a: Box(-1.0, 1.0, (order["obs"],)) for a in self.agents}
            self.action_spaces = {a: Discrete(order["actions"]) for a in self.agents}

        def reset(self, key: Any) -> Any:
            """Start an episode."""
            state = State(done=jax.numpy.array(False), step=jax.numpy.array(0))
            return self.get_obs(state), state

        def step_env(self, key: Any, state: Any, actions: Any) -> Any:
            """Count a step."""
            state = state.replace(step=state.step + 1)
            reward = dict.fromkeys(self.agents, jax.numpy.array(0.0))
            done = dict.fromkeys([*self.agents, "__all__"], jax.numpy.array(False))
            return self.get_obs(state), state, reward, done, {}

        def get_obs(self, state: Any) -> Any:
            """Return observations and the state."""
            seen = dict.fromkeys(self.agents, jax.numpy.full([order["obs"]], state.step * 0.01))
            return {**seen, "world_state": jax.numpy.full([order["state"]], state.step * 0.01)}

        def get_avail_actions(self, state: Any) -> Any:
            """Return all actions."""
            return dict.fromkeys(self.agents, jax.numpy.ones([order["actions"]]))

    return SmaxStandIn()


def given_batch(batch: dict[str, Any], config: dict[str, Any], order: dict[str, Any]) -> Any:
    """Return a replay that always samples the given batch; `first` receives random episodes."""
    random, episodes = np.random.default_rng(0), config["BUFFER_BATCH_SIZE"]

    def draw(x: Any) -> np.ndarray:
        shape = (episodes, 1, *x.shape)
        if np.issubdtype(x.dtype, np.integer):
            return random.integers(0, order["actions"], shape).astype(x.dtype)
        if x.dtype == bool:
            return np.zeros(shape, bool)
        return random.standard_normal(shape).astype(x.dtype)

    def init(episode: Any) -> int:
        import jax

        drawn = jax.tree.map(draw, episode)
        legal = jax.tree.map(np.ones_like, drawn.avail_actions)
        batch["first"] = batch["now"] = drawn.replace(avail_actions=legal)
        return 0

    return SimpleNamespace(
        init=init,
        add=lambda state, episodes: state,
        can_sample=lambda state: np.array(True),
        sample=lambda state, key: SimpleNamespace(experience=batch["now"]),
    )


class Pymarl:
    """PyMARL's learners on the CPU.

    Orders:
      update: settings as in `parity_peer.py`, batch, an npz, threads, count. Times
        `per_call`, seconds of one `learner.train`.
    """

    def __init__(self, checkout: Path):
        sys.path.insert(0, str(checkout / "src"))
        import torch

        self.torch, self.versions = torch, {"torch": torch.__version__}

    def make_update(self, order: dict[str, Any]) -> Case:
        """Return a learner and a batch."""
        from controllers import REGISTRY as CONTROLLERS
        from learners import REGISTRY as LEARNERS
        from parity_peer import FIXED, Log, make_batch

        changed = {"lr": 5e-4, "grad_norm_clip": 10, "learner_log_interval": 10**9}
        args = SimpleNamespace(**{**FIXED, **changed, **order["settings"]})
        with np.load(order["batch"]) as data:
            batch = make_batch(dict(data), args)
        controller = CONTROLLERS["basic_mac"](batch.scheme, batch.groups, args)
        learner = LEARNERS[args.learner](controller, batch.scheme, Log(), args)
        count, threads = order["count"], order["threads"]

        def updates() -> None:
            for _ in range(count):
                learner.train(batch, t_env=0, episode_num=0)

        def timed() -> dict[str, float]:
            self.torch.set_num_threads(threads)
            return {"per_call": seconds_of(updates) / count}

        timed()
        return timed


class Epymarl:
    """EPyMARL's training on PettingZoo's spread.

    Orders:
      train: algo, n_envs, episodes; its parallel runner, a process an environment, an
        update for each of its collections. Times `rate`, env steps a second over so many
        episodes.
    """

    def __init__(self, checkout: Path):
        self.source = checkout / "src"
        sys.path.insert(0, str(self.source))
        sys.modules["smaclite"] = ModuleType("smaclite")  # a game that it imports unasked
        import torch

        self.torch, self.versions = torch, {"torch": torch.__version__}
        for package in ("gymnasium", "pettingzoo"):
            self.versions[package] = importlib.metadata.version(package)

    def settings(self, order: dict[str, Any]) -> dict[str, Any]:
        """Return its configuration of the algorithm on Gymnasium's tasks, with a GRU."""
        import yaml

        found: dict[str, Any] = {}
        for name in ("default", "envs/gymma", f"algs/{order['algo']}"):
            found |= yaml.safe_load((self.source / "config" / f"{name}.yaml").read_text())
        found["env_args"] |= {"key": "pz-mpe-simple-spread-v3", "time_limit": 25, "seed": 0}
        never = 10**9
        return found | {
            "runner": "parallel",
            "batch_size_run": order["n_envs"],
            "use_rnn": True,
            "use_cuda": False,
            "device": "cpu",
            "seed": 0,
            "t_max": never,
            "test_interval": never,
            "test_nepisode": order["n_envs"],
        }

    def make_train(self, order: dict[str, Any]) -> Case:
        """Return the training in a thread, held between two collections."""
        import run
        from runners import REGISTRY as RUNNERS
        from utils.logging import Logger

        log = logging.getLogger()
        config = run.args_sanity_check(self.settings(order), log)
        args = SimpleNamespace(**config, unique_token="")
        goal: queue.Queue[int] = queue.Queue()
        done: queue.Queue[dict[str, float]] = queue.Queue()
        warm = 2 * args.batch_size

        class TimedRunner(RUNNERS["parallel"]):  # type: ignore[misc]
            """Runner that waits for the next goal, a number of episodes, after each."""

            episodes, until, began = 0, warm, (0, 0.0)

            def run(self, test_mode: bool = False) -> Any:
                """Collect."""
                if not test_mode:
                    if self.episodes >= self.until:
                        steps, then = self.began
                        rate = (self.t_env - steps) / (time.perf_counter() - then)
                        done.put({"rate": rate})
                        self.until = self.episodes + goal.get()
                        self.began = self.t_env, time.perf_counter()
                    self.episodes += self.batch_size
                return super().run(test_mode)

        RUNNERS["parallel"] = TimedRunner

        def train() -> None:
            self.torch.set_num_threads(1)  # as its main.py does
            run.run_sequential(args, Logger(log))

        threading.Thread(target=train, daemon=True).start()

        def timed() -> dict[str, float]:
            goal.put(order["episodes"])
            return done.get(timeout=PATIENCE_SECONDS)

        done.get(timeout=PATIENCE_SECONDS)  # warm, and learning
        return timed


class Xuance:
    """XuanCe's training on PettingZoo's spread.

    Orders:
      train: algo, n_envs, episodes, recurrent; with its configuration of the task, or with
        that and the GRU, episodes and batch that PyMARL has. Times `rate`, env steps a
        second over so many episodes.
    """

    def __init__(self, checkout: Path):
        no_wandb()
        sys.path.insert(0, str(checkout))
        import torch

        self.versions = {"torch": torch.__version__}
        for package in ("gymnasium", "pettingzoo"):
            self.versions[package] = importlib.metadata.version(package)
        self.folder = tempfile.mkdtemp()
        os.chdir(self.folder)  # where it puts logs and models

    def make_train(self, order: dict[str, Any]) -> Case:
        """Return an agent."""
        from xuance import get_arguments, make_envs
        from xuance.torch.agents import REGISTRY_Agents

        n_envs, steps = order["n_envs"], 25 * order["episodes"]
        changed = {"parallels": n_envs, "render": False, "device": "cpu"}
        if order["recurrent"]:
            changed |= {
                "use_rnn": True,
                "representation": "Basic_RNN",
                "use_parameter_sharing": True,
                "buffer_size": 5000,
                "batch_size": 32,
                "n_epochs": 1,
                "hidden_dim_mixing_net": 32,
                "hidden_dim_hyper_net": 64,
            }
        config = get_arguments(
            order["algo"], "mpe", "simple_spread_v3", parser_args=SimpleNamespace(**changed)
        )
        agent = REGISTRY_Agents[config.agent](config, make_envs(config))

        def train(env_steps: int) -> None:
            agent.train(env_steps // n_envs)

        train(2 * config.start_training)
        return lambda: {"rate": steps / seconds_of(lambda: train(steps))}


def run_script(checkout: Path, algo: str, marks: Path, every: int, arguments: list[str]) -> None:
    """Run one of JaxMARL's scripts as it is from a command line.

    Args:
      marks: gets a line of JSON, metrics and `time`, Unix time, at the first update and
        after every evaluation; the script's report at every collection is not made.
      every: collections between two evaluations.
      arguments: the arguments of the script's command line.
    """

    def log(metrics: dict[str, Any]) -> None:
        row = {"time": time.time(), **{k: float(np.mean(v)) for k, v in metrics.items()}}
        with marks.open("a") as file:
            print(json.dumps(row), file=file)

    no_wandb(log)
    sys.path.insert(0, str(checkout))
    import jax

    report = jax.debug.callback

    def seldom(callback: Any, metrics: Any, *rest: Any) -> None:
        now = (metrics["update_steps"] % every == 0) | (metrics["grad_steps"] == 1)
        jax.lax.cond(now, lambda: report(callback, metrics, *rest), lambda: None)

    jax.debug.callback = seldom
    script = checkout / "baselines" / "QLearning" / f"{algo}_rnn.py"
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), run_name="__main__")


SERVERS = {"jaxmarl": Jaxmarl, "pymarl": Pymarl, "epymarl": Epymarl, "xuance": Xuance}


def serve(peer: str, checkout: Path) -> None:
    """Answer orders until there are no more."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(**answer: Any) -> None:
        print(json.dumps(answer), file=answers)

    server = SERVERS[peer](checkout)
    say(**server.versions)
    cases: dict[str, Case] = {}
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if order["do"] == "make":
                start = time.perf_counter()
                cases[order["name"]] = getattr(server, f"make_{order['kind']}")(order)
                say(seconds=time.perf_counter() - start)
            else:
                say(**cases[order["name"]]())
        except Exception as error:  # whatever it is, it is the answer
            say(error=f"{type(error).__name__}: {error}")
            traceback.print_exc()
    os._exit(0)  # a training may still be held in its thread


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "serve":
        serve(rest[0], Path(rest[1]))
    else:
        run_script(Path(rest[0]), rest[1], Path(rest[2]), int(rest[3]), rest[4:])
