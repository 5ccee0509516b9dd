"""Makes the texts that describe a trained team: its report, and the summary of its training."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from tfmix import envs
from tfmix.training.playing import Scores, check_playing_memory, play_episodes, summarize
from tfmix.training.seeds import Stream
from tfmix.types import TEAM_REWARD
from tfmix.utils import text
from tfmix.utils.command import command

if TYPE_CHECKING:
    from tfmix.runs.run import Run
    from tfmix.training.best import BestTeam


def report_text(run: Run, episodes: int) -> str:
    """Return the mean return of the greedy team and of a random team, and the metrics.

    Args:
      run: the run.
      episodes: the number of episodes of each.

    Raises:
      UserError: the machine has less memory than the episodes need.
    """
    check_playing_memory(run.spec, episodes)
    scores = Scores.of(play_episodes(run.collector, run.config.seed, Stream.SUMMARY, episodes))
    names, random = run.collector.metric_names, run.evaluate(episodes, epsilon=1.0)
    found = summarize(scores, names)
    measured = [
        f"{name} {found[f'greedy_{name}']:.4g}" for name in names if f"greedy_{name}" in found
    ]
    best = f", best team of {run.team_env_steps:,}" if run.which == "best" else ""
    lines = [
        f"{run.config.algo} on {text.clean(run.config.env)}, seed {run.config.seed}, "
        f"{run.env_steps:,} env steps{best}",
        f"greedy return {scores.returns.mean():.2f} over {text.counted(episodes, 'episode')} "
        f"({TEAM_REWARD[run.spec.team_reward]}), a random team {random.mean():.2f}",
        *([f"greedy {', '.join(measured)}"] if measured else []),
    ]
    return "\n".join(lines)


def summary_text(run: Run, report: str, best: BestTeam | None) -> str:
    """Return the text of the end of a training; its commands can be pasted.

    Args:
      run: the run.
      report: the report of its team.
      best: its best team; None if that is not known.
    """
    own = [f"--env={run.config.env}"] if envs.imports_user_code(run.config.env) else []
    evaluate = command(["--mode=evaluate", f"--run_dir={run.folder}", *own])
    lines = [
        report,
        f"run folder   {run.folder}",
        f"TensorBoard  tensorboard --logdir {shlex.quote(str(run.folder))}",
        f"evaluate     {evaluate}",
    ]
    if (run.folder / "export").is_dir():
        lines.append(f"SavedModel   {run.folder / 'export'}")
    if (run.folder / "export_best").is_dir():
        lines.append(f"best team    {run.folder / 'export_best'}{_score(best)}")
    return "\n".join(lines)


def _score(best: BestTeam | None) -> str:
    """Return what the best team reached; nothing if there is none."""
    if best is None or not best.exists:
        return ""
    found, at = float(best.greedy_return), int(best.env_steps)
    return f", greedy return {found:.2f} at {at:,} env steps"
