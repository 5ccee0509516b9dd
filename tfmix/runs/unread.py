"""Refuses settings that a run would never read. No TensorFlow is imported."""

from __future__ import annotations

from collections.abc import Iterable

from tfmix import envs
from tfmix.algos.settings import DECLARED, shared
from tfmix.config.schema import Config
from tfmix.errors import UserError
from tfmix.networks import architectures

# What only some algorithms, or only agents of some kind, read.
_OF_ALGORITHMS = frozenset().union(*DECLARED.values())
_OF_AGENTS = frozenset({"agent_id", "n_step", "q_lambda"}).union(
    *(architecture.settings for architecture in architectures.REGISTRY.values())
)
_WORKERS = ("max_worker_restarts", "env_timeout_seconds")
_OF_PYTHON = ("env_workers", "episode_limit", *_WORKERS)
# Environments of tfmix whose reward is the team's by itself.
TEAM_REWARD = (
    "two_step",
    "matrix/",
    "gaussian_squeeze/",
    "predator_prey/stag_hunt",
    "predator_prey/pair_hunt",
)
_ONE_LAYER = ("qmix", "cw_qmix", "ow_qmix")
# Why a setting of the agents or of the targets is not read.
_REASONS = {
    "agent_layers": "agents with a GRU have no such layers: --recurrent=false",
    "agent_id": "with --share_parameters=false each agent has its own network and needs no index",
    "n_step": "TD(lambda) targets have no n: leave out --td_lambda",
    "q_lambda": "it corrects TD(lambda) targets: give --td_lambda too",
}


def refuse_unread(config: Config, typed: Iterable[str]) -> None:
    """Raise UserError for the first setting in `typed` that a run of `config` never reads."""
    for name in typed:
        if reason := why_unread(name, config):
            raise UserError(f"--{name} has no effect here: {reason}")


def why_unread(name: str, config: Config) -> str:
    """Return why a training with these settings never reads one of them, or nothing."""
    algo, env = config.algo, config.env
    if name in _OF_ALGORITHMS:
        if name not in DECLARED[algo]:
            readers = [other for other, names in DECLARED.items() if name in names]
            return f"{algo} does not read it; {', '.join(readers)} do{'es' * (len(readers) == 1)}"
        if name == "hypernet_embed" and algo in _ONE_LAYER and config.hypernet_layers == 1:
            return "hypernetworks of one layer have no hidden units: --hypernet_layers=2"
    elif name in _OF_AGENTS:
        return "" if name in shared(config) else _REASONS[name]
    return _why_env(name, config, env) or _why_schedule(name, config)


def _why_env(name: str, config: Config, env: str) -> str:
    """Return why the environment has no use for a setting, or nothing."""
    if env in envs.GRAPH:
        if name in _OF_PYTHON:
            return f"it is for Python environments, and {env} is compiled into the training loop"
        if name == "team_reward" and env.startswith(TEAM_REWARD):
            return f"{env} has one reward, the team's"
    if name in _WORKERS and config.env_workers == 0:
        return "with --env_workers=0 there are no worker processes"
    return ""


def _why_schedule(name: str, config: Config) -> str:
    """Return why a schedule has no use for a setting, or nothing."""
    if name == "epsilon_start" and config.epsilon_anneal_env_steps == 0:
        return "with --epsilon_anneal_env_steps=0 epsilon is --epsilon_end from the start"
    if name == "target_period_updates" and config.target_tau > 0:
        return f"with --target_tau={config.target_tau:g} the targets follow at every update"
    return ""
