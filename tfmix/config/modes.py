"""Modes of the command line: what they do, their other names, and the flags that they read."""

from __future__ import annotations

# What each mode does, for --help.
MODES = {
    "train": "Trains a team in a new run folder (the default mode).",
    "resume": "Continues the run in --run_dir, with --env_steps to a new end.",
    "evaluate": "Plays greedy episodes of the run in --run_dir, and a random team's.",
    "watch": "Writes episodes of the run in --run_dir as HTML, SVG and GIF, to look at.",
    "export": "Writes the policy of the run in --run_dir as SavedModel, TensorFlow Lite or ONNX.",
    "benchmark": "Trains algorithms on environments with several seeds, and writes a table.",
    "plot": "Draws curves and scores of the runs in --runs, with intervals over seeds.",
    "runs": "Prints a table of the runs in --runs: state, progress, returns, time.",
    "check_env": "Examines the environment of --env and says what is wrong with it.",
    "list": "Prints the algorithms and environments; --env=smac prints those named so.",
    "settings": "Prints every setting that the run would use and where it is from.",
}
# Other names of modes.
MODES_MEANT = {
    **dict.fromkeys(("eval", "test", "play", "score"), "evaluate"),
    **dict.fromkeys(("fit", "learn", "run", "start"), "train"),
    **dict.fromkeys(("continue", "restart", "load"), "resume"),
    **dict.fromkeys(("sweep", "grid", "bench", "compare"), "benchmark"),
    **dict.fromkeys(("check", "doctor", "validate", "env"), "check_env"),
    **dict.fromkeys(("ls", "envs", "algos", "names"), "list"),
    **dict.fromkeys(("config", "show", "print", "setting", "flags"), "settings"),
    **dict.fromkeys(("view", "animate", "render", "visualize", "visualise"), "watch"),
    **dict.fromkeys(("draw", "figure", "figures", "curves"), "plot"),
    **dict.fromkeys(("table", "status", "ps"), "runs"),
    **dict.fromkeys(("save", "savedmodel", "saved_model", "deploy"), "export"),
}
# What does the same in Python.
FUNCTIONS = {
    "train": "tfmix.train",
    "resume": "tfmix.resume",
    "evaluate": "run.evaluate",
    "watch": "run.watch",
    "export": "run.export",
    "benchmark": "tfmix.benchmark",
    "check_env": "tfmix.check_env",
    "plot": "tfmix.plot",
    "runs": "tfmix.list_runs",
}
# Flags that are not settings of a run: the modes that read them.
MODES_OF: dict[str, tuple[str, ...]] = {
    "seeds": ("benchmark",),
    "jobs": ("benchmark",),
    "episodes": ("watch",),
    "epsilon": ("watch",),
    "profile": ("train", "resume"),
    "which": ("evaluate", "watch", "export"),
    "format": ("export",),
    "runs": ("plot", "runs"),
    "metric": ("plot",),
    "x": ("plot",),
    "out": ("plot",),
    "show_runs": ("plot",),
    "force": ("plot",),
    "sort": ("runs",),
}
# Teams of a run folder, see `tfmix.load`.
WHICH = ("last", "best")
