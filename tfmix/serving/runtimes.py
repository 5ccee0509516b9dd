"""Opens the files of an export with the runtime of their format."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfmix.errors import UserError
from tfmix.serving.contract import FILES, NEXT_HIDDEN
from tfmix.utils import text
from tfmix.utils.quiet import quiet, quiet_import

# A signature: arrays by name in, arrays by name out.
Function = Callable[..., Mapping[str, Any]]
# What reads a format: any one of these modules.
MODULES = {
    "saved_model": ("tensorflow",),
    "tflite": ("ai_edge_litert", "tensorflow"),
    "onnx": ("onnxruntime",),
}
PACKAGES = {"tensorflow": "tensorflow", "ai_edge_litert": "ai-edge-litert"}


def open_signatures(
    folder: str | os.PathLike[str],
    format: str = "saved_model",  # noqa: A002 (as --format)
) -> dict[str, Function]:
    """Open an export and return its signatures `act` and `act_agent`.

    They take NumPy arrays by name and return NumPy arrays by name. Threads may call them at
    the same time.

    Args:
      folder: the folder of the export.
      format: `saved_model` (TensorFlow), `tflite` (LiteRT) or `onnx` (onnxruntime).

    Raises:
      UserError: the runtime is not installed, or the files cannot be read.
    """
    modules = [name for name in MODULES[format] if importlib.util.find_spec(name)]
    if not modules:
        wanted = " or ".join(PACKAGES.get(name, name) for name in MODULES[format])
        raise UserError(f"format {format!r} needs {wanted}, which is not installed here")
    opener = {"saved_model": _saved_model, "tflite": _tflite, "onnx": _onnx}[format]
    names = FILES[format]
    for name in {*names.values()}:
        path = Path(folder) / name
        if not path.exists():
            raise UserError(f"there is no {path}; --mode=export --format={format} writes it")
    try:
        with quiet():
            return opener(Path(folder), modules[0])
    except Exception as error:  # whatever a runtime raises for a damaged file
        where = text.clean(folder)
        raise UserError(f"cannot open {where} as {format}: {text.of_error(error, 200)}") from error


def _saved_model(folder: Path, module: str) -> dict[str, Function]:
    """Open a SavedModel with TensorFlow."""
    tf = quiet_import(module)
    loaded = tf.saved_model.load(str(folder))

    def call(name: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        # `loaded` is named here, because its variables live as long as it does.
        out = loaded.signatures[name](**{key: tf.constant(x) for key, x in inputs.items()})
        return {key: x.numpy() for key, x in out.items()}

    return {name: functools.partial(call, name) for name in FILES["saved_model"]}


def _tflite(folder: Path, module: str) -> dict[str, Function]:
    """Open a LiteRT file; an interpreter serves one thread at a time."""
    if module == "ai_edge_litert":
        interpreter = quiet_import("ai_edge_litert.interpreter").Interpreter
    else:
        interpreter = quiet_import(module).lite.Interpreter

    def guarded(name: str) -> Function:
        opened = interpreter(str(folder / FILES["tflite"][name]))
        opened.allocate_tensors()  # here it prints which delegate it uses
        runner = opened.get_signature_runner(name)
        lock = threading.Lock()

        def call(**inputs: np.ndarray) -> dict[str, np.ndarray]:
            with lock:
                return {key: np.array(x) for key, x in runner(**inputs).items()}

        return call

    return {name: guarded(name) for name in FILES["tflite"]}


def _onnx(folder: Path, module: str) -> dict[str, Function]:
    """Open ONNX files with onnxruntime on the CPU."""
    runtime = quiet_import(module)

    def opened(name: str) -> Function:
        path = str(folder / FILES["onnx"][name])
        session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]

        def call(**inputs: np.ndarray) -> dict[str, np.ndarray]:
            found = dict(zip(names, session.run(names, inputs), strict=True))
            return {"hidden" if name == NEXT_HIDDEN else name: x for name, x in found.items()}

        return call

    return {name: opened(name) for name in FILES["onnx"]}
