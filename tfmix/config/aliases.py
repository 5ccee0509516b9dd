"""Names that other programs have for settings, and what answers a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from tfmix.config.modes import MODES, MODES_MEANT

# What a setting is: the names that it has elsewhere. A sentence reads "the learning rate is
# --learning_rate".
_NAMES: dict[str, tuple[str, str]] = {
    "algo": ("the algorithm", "alg algorithm agent method policy learner model algo_name"),
    "env": ("the environment", "env_id env_name environment task map map_name scenario game"),
    "env_arg": (
        "an argument of the environment, name=value,",
        "env_args env_kwargs env_config env_params kwargs",
    ),
    "seed": ("the seed", "random_seed rng_seed"),
    "seeds": ("a benchmark's list of seeds, such as 0:3,", "num_seeds n_seeds"),
    "jobs": ("a benchmark's number of runs at a time", "n_jobs num_jobs parallel"),
    "run_dir": (
        "the run folder, for everything that a run reads and writes,",
        "logdir log_dir save_dir save_path output output_dir outdir out_dir dir folder "
        "results_dir local_results_path model_dir checkpoint checkpoint_dir checkpoint_path "
        "load_dir load_path name exp_name run_name experiment tag",
    ),
    "env_steps": (
        "the length of a training, in env steps,",
        "steps total_timesteps timesteps num_timesteps total_steps total_env_steps max_steps "
        "num_steps t_max num_episodes n_episodes max_episodes epochs num_epochs "
        "iterations num_iterations frames total_frames",
    ),
    "flagfile": ("a file of settings", "config config_file cfg conf preset yaml settings_file"),
    "n_envs": (
        "the number of environments stepped in parallel",
        "num_envs nenvs num_env envs batch_size_run n_rollout_threads num_parallel_envs",
    ),
    "env_workers": (
        "the number of processes that step Python environments",
        "num_workers n_workers workers num_cpu num_cpus cpus threads num_threads",
    ),
    "epsilon_start": ("the first epsilon", "eps eps_start initial_epsilon exploration"),
    "epsilon_end": ("the final epsilon", "epsilon_finish eps_end eps_finish final_epsilon"),
    "epsilon_anneal_env_steps": (
        "the length of epsilon's decay, in env steps,",
        "epsilon_anneal_time epsilon_anneal epsilon_decay eps_decay epsilon_decay_steps "
        "exploration_fraction epsilon_anneal_steps",
    ),
    "episode_limit": (
        "the time limit of a Python environment",
        "max_cycles max_episode_steps max_episode_length episode_length horizon time_limit_steps",
    ),
    "buffer_episodes": (
        "the replay's capacity, in episodes,",
        "buffer_size replay_size replay_capacity memory_size capacity buffer",
    ),
    "batch_episodes": (
        "the batch size, in episodes,",
        "batch_size batch bs minibatch_size train_batch_size",
    ),
    "gamma": ("the discount factor", "discount discount_factor"),
    "learning_rate": ("the learning rate", "lr alpha step_size stepsize"),
    "learning_rate_decay": (
        "the schedule of the learning rate",
        "lr_decay lr_schedule lr_linear_decay anneal_lr",
    ),
    "optimizer": ("the optimiser", "optim optimiser"),
    "optimizer_epsilon": ("the optimiser's epsilon", "optim_eps adam_eps adam_epsilon"),
    "grad_clip_norm": (
        "the largest norm of the gradient",
        "grad_clip grad_norm_clip max_grad_norm clip clip_norm gradient_clip",
    ),
    "target_period_updates": (
        "the period of the target networks, in updates,",
        "target_update target_update_interval target_update_freq target_update_period "
        "target_network_update_freq",
    ),
    "target_tau": ("the rate of Polyak averaging", "tau polyak soft_update target_update_tau"),
    "double_q": ("double Q-learning", "double_dqn ddqn use_double_q"),
    "td_lambda": ("lambda of TD(lambda)", "lambda lam"),
    "n_step": ("the number of rewards in an n-step target", "nstep nsteps n_steps"),
    "standardise_rewards": (
        "standardised rewards",
        "standardize_rewards reward_standardisation normalize_rewards reward_normalization",
    ),
    "hidden_size": (
        "the width of the agents' networks",
        "hidden_dim hidden rnn_hidden_dim hidden_units hidden_layer_size units",
    ),
    "recurrent": ("a GRU in the agents", "rnn use_rnn gru"),
    "agent_layers": ("the number of hidden layers of feed-forward agents", "layers num_layers"),
    "share_parameters": ("one network for all agents", "share_params parameter_sharing"),
    "last_action": ("the agents' last action as input", "obs_last_action"),
    "agent_id": ("the agents' index as input", "obs_agent_id"),
    "mixer_embed": ("the width of the mixer", "mixing_embed_dim mixer_dim mixing_dim"),
    "hypernet_embed": ("the width of the hypernetworks", "hypernet_embed_dim hypernet_dim"),
    "central_embed": ("the width of the central mixer", "central_mixing_embed_dim"),
    "attention_heads": ("the number of Qatten's attention heads", "n_head n_heads heads"),
    "duplex_kernels": ("the number of QPLEX's attention kernels", "num_kernel num_kernels"),
    "wqmix_alpha": ("the weight alpha of CW-QMIX and OW-QMIX", "w wqmix_weight"),
    "eval_episodes": (
        "the number of episodes in an evaluation",
        "n_eval_episodes num_eval_episodes test_nepisode num_test_episodes test_episodes",
    ),
    "eval_period_env_steps": (
        "the distance between evaluations, in env steps,",
        "eval_interval eval_freq eval_every eval_period evaluate_every test_interval",
    ),
    "log_period_env_steps": (
        "the distance between rows of metrics, in env steps,",
        "log_interval log_freq log_every logging_freq runner_log_interval learner_log_interval",
    ),
    "checkpoint_period_env_steps": (
        "the distance between checkpoints, in env steps,",
        "save_freq save_interval save_every save_model_interval checkpoint_freq "
        "checkpoint_interval",
    ),
}
_DEVICE = "a GPU is used if TensorFlow sees one, and CUDA_VISIBLE_DEVICES= hides it"
_RECORDS = "every run writes metrics.csv and TensorBoard's files into its run folder, --run_dir"
_SILENCE = "a run prints its progress on standard error; --debug shows the traceback of an error"
_DRAWS = "--mode=watch writes episodes of a run as pages, SVG and GIF"
_TEAM = "the number of agents is the environment's, often set by --env_arg=name=value"
_ANSWERS = {
    **dict.fromkeys(("gpu", "device", "cuda", "use_cuda", "use_gpu", "gpus", "cpu"), _DEVICE),
    **dict.fromkeys(("wandb", "use_wandb", "wandb_project", "track", "tensorboard"), _RECORDS),
    **dict.fromkeys(("verbose", "quiet", "silent", "v", "log_level"), _SILENCE),
    **dict.fromkeys(("render", "render_mode", "video", "gif", "html", "svg"), _DRAWS),
    **dict.fromkeys(("n_agents", "num_agents", "agents"), _TEAM),
    "h": "--help lists every setting, with examples",
}
# The setting that each other name means.
ALIASES = {name: setting for setting, (_, names) in _NAMES.items() for name in names.split()}


def answer(name: str, known: Iterable[str]) -> str:
    """Return one line about the setting `name`, which does not exist.

    Args:
      name: what was typed, without dashes.
      known: the settings and flags that exist.
    """
    known = list(known)
    folded = name.lower().replace("-", "_")
    if folded in known:
        return f"there is no --{name}: write --{folded}"
    if folded in MODES:
        return f"there is no --{name}: write --mode={folded}"
    if folded in _ANSWERS:
        return f"there is no --{name}: {_ANSWERS[folded]}"
    if ALIASES.get(folded) in [*known, "flagfile"]:
        setting = ALIASES[folded]
        return f"there is no --{name}: {_NAMES[setting][0]} is --{setting}"
    if folded in MODES_MEANT:
        return f"there is no --{name}: write --mode={MODES_MEANT[folded]}"
    close = difflib.get_close_matches(folded, [*known, *ALIASES], 1, 0.6)
    if close:
        return f"there is no --{name}; did you mean --{ALIASES.get(close[0], close[0])}?"
    return f"there is no --{name}; --help lists every setting"
