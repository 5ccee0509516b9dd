"""Checks an environment in a separate process: a hang, a crash or an exit is a finding."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import time

from tfmix import UNGUARDED
from tfmix.config.schema import Config
from tfmix.envs.check.examine import check_here
from tfmix.envs.check.findings import Findings
from tfmix.envs.check.report import Report
from tfmix.envs.python.workers.child import ParentLink
from tfmix.envs.python.workers.handle import CLOSE_SECONDS, WorkerHandle
from tfmix.envs.python.workers.progress import (
    BUILD,
    HUNG,
    REFUSED,
    RESET,
    SLOT,
    STEP,
    Failure,
    Progress,
)
from tfmix.envs.python.workers.resources import allow_files, new_memory, not_started
from tfmix.errors import UserError
from tfmix.utils.text import clean


def check_in_process(parcel: bytes, config: Config, episodes: int) -> Report | None:
    """Check an environment in a separate process.

    Returns:
      the report; None if the process cannot import the user's script, because the
      script checks or trains as soon as it is imported.

    Raises:
      UserError: the environment cannot be made or started.
    """
    allow_files(1)
    report: Report | None = None
    with contextlib.ExitStack() as undo:
        try:
            file, slots = new_memory(SLOT)
            undo.callback(os.close, file)
            arguments, progress = (parcel, config, episodes), Progress(slots)
            handle = WorkerHandle(_work, arguments, file, (progress, 0), clean(config.env, 100))
        except OSError as error:
            raise not_started(1, error) from error
        undo.callback(handle.end)
        is_done = False
        while not is_done:
            answer = handle.wait(config.env_timeout_seconds)
            if isinstance(answer, Failure):
                return _interrupted_report(report, answer, progress, config)
            is_done, report = answer
        handle.pipe.close()
        handle.shut_down(time.monotonic() + CLOSE_SECONDS)
    return report


def _work(link: ParentLink, parcel: bytes, config: Config, episodes: int) -> None:
    """Check an environment in this child; send (is complete, report) after every episode."""

    def say(report: Report) -> None:
        link.is_built = True
        link.send((False, report))

    factory = link.progress.call(BUILD, pickle.loads, parcel)
    link.send((True, check_here(factory, config, episodes, link.progress, say)))


def _interrupted_report(
    report: Report | None, failure: Failure, progress: Progress, config: Config
) -> Report | None:
    """Return the report of an environment that hung or ended its process.

    Raises:
      UserError: it did so before there was a report.
    """
    if failure.kind == UNGUARDED:
        return None
    if report is None:
        text = f"{clean(config.env, 100)}: the environment's process {failure.text}"
        raise UserError(failure.text if failure.kind == REFUSED else text)
    findings = Findings()
    stage, _, episode, step = progress.now()
    if stage in (RESET, STEP):
        findings.episode, findings.step = episode, step
    findings.add("hung" if failure.kind == HUNG else "died", text=failure.text)
    return dataclasses.replace(
        report, violations=[*report.violations, *findings.all(warnings=False)]
    )
