"""Converts a SavedModel of a policy to the other formats of an export."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfmix.errors import RunFailedError, UserError
from tfmix.serving.contract import FILES, NEXT_HIDDEN
from tfmix.utils import text
from tfmix.utils.quiet import quiet, quiet_import

SAVED_MODEL, TFLITE, ONNX = "saved_model", "tflite", "onnx"
TITLES = {SAVED_MODEL: "SavedModel", TFLITE: "TensorFlow Lite", ONNX: "ONNX"}
OPSET = 18  # of ONNX, since 2022
# Packages that a format needs beside TensorFlow, by module.
NEEDS = {ONNX: {"tf2onnx": "tf2onnx", "onnxruntime": "onnxruntime"}}


def read_formats(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return the formats that are asked for; a SavedModel is always one of them.

    Args:
      given: names, or a text with commas between them.

    Raises:
      UserError: a name is not known, or a package that a format needs is not installed.
    """
    listed: Sequence[Any] = given if isinstance(given, list | tuple) else str(given).split(",")
    names = [str(name).strip() for name in listed]
    for name in names:
        if name not in TITLES:
            shown = text.clean(name, 60) or "''"
            near = text.nearest(name.lower().replace("-", "_"), TITLES)
            raise UserError(
                f"--format={shown}: there is no such format{near}; there are {', '.join(TITLES)}"
            )
        if packages := missing(name):
            raise UserError(
                f"--format={name} needs {' and '.join(packages)}: "
                "pip install -r requirements-export.txt"
            )
    return tuple(name for name in TITLES if name in names or name == SAVED_MODEL)


def missing(name: str) -> list[str]:
    """Return the packages that a format needs and that are not installed."""
    needed = NEEDS.get(name, {}).items()
    return [package for module, package in needed if importlib.util.find_spec(module) is None]


def convert(name: str, folder: Path) -> None:
    """Make the files of a format from the SavedModel in a folder.

    Args:
      name: of the format; a SavedModel needs nothing.
      folder: of the export; the files are written into it.

    Raises:
      RunFailedError: the converter fails.
      OSError: a file cannot be written.
    """
    make = {TFLITE: _tflite, ONNX: _onnx}.get(name)
    if make is None:
        return
    try:
        with quiet():
            made = make(folder)
    except OSError:
        raise
    except Exception as error:  # whatever a converter raises
        raise RunFailedError(
            f"the policy cannot be converted to {TITLES[name]}: {text.of_error(error, 300)}"
        ) from error
    for file, content in made.items():
        (folder / file).write_bytes(content)


def _tflite(folder: Path) -> dict[str, bytes]:
    """Return the LiteRT file, with one signature for the team and one for an agent."""
    tf = quiet_import("tensorflow")
    names = FILES[TFLITE]
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=list(names))
    return {names["act"]: converter.convert()}


def _onnx(folder: Path) -> dict[str, bytes]:
    """Return an ONNX file for each signature, with one free size B."""
    tf, tf2onnx = quiet_import("tensorflow"), quiet_import("tf2onnx")
    loaded, made = tf.saved_model.load(str(folder)), {}
    for name, file in FILES[ONNX].items():
        specs = loaded.signatures[name].structured_input_signature[1]
        model, _ = tf2onnx.convert.from_function(
            _with_own_names(loaded.signatures[name]),
            [specs[key] for key in specs],
            opset=OPSET,
            custom_op_handlers={"SelectV2": (_select, [])},
        )
        made[file] = model.SerializeToString()
    return made


def _with_own_names(signature: Any) -> Any:
    """Return a signature as a function whose outputs have names that no input has.

    In ONNX an input and an output cannot have one name: the output `hidden` is `next_hidden`.
    """
    tf = quiet_import("tensorflow")
    specs = signature.structured_input_signature[1]

    def renamed(*inputs: Any) -> dict[str, Any]:
        out = signature(**dict(zip(specs, inputs, strict=True)))
        return {"action": out["action"], "q": out["q"], NEXT_HIDDEN: out["hidden"]}

    return tf.function(renamed, input_signature=[specs[key] for key in specs])


def _select(_: Any, node: Any, *__: Any) -> Any:
    """Make an ONNX Where of TensorFlow's select; tf2onnx multiplies, and 0 times NaN is NaN."""
    node.type = "Where"
    return node
