"""Serves an export over HTTP in the Open Inference Protocol v2, on this machine alone.

    python -m examples.serve.rest_server runs/x/export

Each signature is a model: POST /v2/models/act/infer. docs/serving.md shows the bodies.
It needs requirements-serve.txt.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import Any

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tfmix import UserError, __version__
from tfmix.serving import Policy
from tfmix.serving.checks import find_signature
from tfmix.serving.policy import MOST_CLIENTS
from tfmix.serving.runtimes import MODULES
from tfmix.utils import text

VERSION = "1"  # of every model
MOST_BYTES = 8 * 2**20  # of a request's body
DRAINED = 8  # times MOST_BYTES are read and dropped, so that the client gets its answer
DATATYPES = {"float32": "FP32", "bool": "BOOL", "int32": "INT32"}
PLATFORMS = {"saved_model": "tensorflow_savedmodel", "tflite": "litert", "onnx": "onnx"}


def datatypes_of(name: str, dtype: str) -> tuple[str, ...]:
    """Return the datatypes that an input may have; agents are named by index or name."""
    return (DATATYPES[dtype], "BYTES") if name == "agent" else (DATATYPES[dtype],)


def read_array(given: Any, allowed: tuple[str, ...] | None) -> np.ndarray:
    """Return a tensor of a request as an array; raise UserError if it is none.

    Args:
      given: `name`, `shape`, `datatype` and `data`, flat or nested.
      allowed: the datatypes that the input may have; None if it is not known.
    """
    name = text.clean(given["name"], 40)
    shape, datatype = given.get("shape"), given.get("datatype")
    if allowed and datatype not in allowed:
        found = text.clean(repr(datatype), 40)
        raise UserError(f"{name} has datatype {found}, and it takes {' or '.join(allowed)}")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise UserError(f"{name} needs its shape, a list of whole numbers")
    try:
        data = np.asarray(given.get("data", [])).ravel()
    except (ValueError, OverflowError) as error:
        raise UserError(f"the data of {name} is not an array: {text.clean(error, 100)}") from error
    if data.size != math.prod(shape):
        shown = text.clean(shape, 80)
        raise UserError(f"{name} has {data.size} values, and its shape is {shown}")
    return data.reshape(shape)


def read_inputs(policy: Policy, model: str, asked: Any) -> dict[str, np.ndarray]:
    """Return the inputs of a request by name; raise UserError if they are not readable."""
    if not isinstance(asked, dict) or not isinstance(asked.get("inputs"), list):
        raise UserError("the body is a JSON object with a list of inputs")
    known = find_signature(policy.contract, model).inputs
    found: dict[str, np.ndarray] = {}
    for given in asked["inputs"]:
        if not isinstance(given, dict) or not isinstance(given.get("name"), str):
            raise UserError("an input is a JSON object with name, shape, datatype and data")
        name = given["name"]
        if name in found:
            raise UserError(f"the input {text.clean(name, 40)} comes twice")
        tensor = known.get(name)
        found[name] = read_array(given, tensor and datatypes_of(name, tensor.dtype))
    return found


def read_sequence(asked: dict[str, Any]) -> tuple[Any, bool, bool]:
    """Return the client whose `hidden` the server keeps, or None, and whether it starts or ends."""
    parameters = asked.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise UserError("parameters is a JSON object")
    client = parameters.get("sequence_id") or None
    flags = [parameters.get(name, False) for name in ("sequence_start", "sequence_end")]
    if not all(isinstance(flag, bool) for flag in flags):
        raise UserError("sequence_start and sequence_end are true or false")
    if client is None and any(flags):
        raise UserError("sequence_start and sequence_end need a sequence_id")
    if client is not None and (type(client) not in (str, int) or len(str(client)) > 256):
        raise UserError("sequence_id is a whole number or a text of at most 256 characters")
    return client, *flags


def infer(policy: Policy, model: str, body: bytes) -> dict[str, Any]:
    """Answer a request; raise UserError if it is wrong."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a number")

    try:
        asked = json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise UserError(f"the body is not JSON: {text.clean(error, 200)}") from error
    inputs = read_inputs(policy, model, asked)
    client, start, end = read_sequence(asked)
    out = policy.infer(model, inputs, client, start)
    if end:
        policy.end(client)
    return {
        "model_name": model,
        "model_version": VERSION,
        **({"id": asked["id"]} if isinstance(asked.get("id"), str) else {}),
        "outputs": [
            {
                "name": name,
                "datatype": DATATYPES[array.dtype.name],
                "shape": list(array.shape),
                "data": array.ravel().tolist(),
            }
            for name, array in out.items()
        ],
    }


async def read_body(request: Request) -> bytes:
    """Return a request's body; raise HTTPException if it is too large."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size <= MOST_BYTES:
            parts.append(part)
        elif size > DRAINED * MOST_BYTES:
            break
    if size > MOST_BYTES:
        raise HTTPException(413, f"the body has more than {MOST_BYTES:,} bytes")
    return b"".join(parts)


def make_app(policy: Policy, format: str = "saved_model") -> Starlette:  # noqa: A002
    """Return the server's application."""
    contract = policy.contract

    def named(request: Request) -> str:
        model, version = request.path_params["model"], request.path_params.get("version", VERSION)
        if version != VERSION:
            raise HTTPException(404, f"the one version is {VERSION}")
        try:
            find_signature(contract, model)
        except UserError as error:
            raise HTTPException(404, str(error)) from error
        return str(model)

    async def about_server(request: Request) -> Response:
        about = {"name": "tfmix", "version": __version__, "extensions": ["sequence"]}
        return JSONResponse(about)

    async def about_model(request: Request) -> Response:
        model = named(request)
        signature, both = contract.signatures[model], {}
        for kind, tensors in zip(("inputs", "outputs"), signature, strict=True):
            both[kind] = [
                {
                    "name": name,
                    "datatype": DATATYPES[tensor.dtype],
                    "shape": [-1 if size == "B" else size for size in tensor.shape],
                }
                for name, tensor in tensors.items()
            ]
        about = {"name": model, "versions": [VERSION], "platform": PLATFORMS[format], **both}
        return JSONResponse(about)

    async def ready(request: Request) -> Response:
        return JSONResponse({"name": named(request), "ready": True})

    async def live(request: Request) -> Response:
        return JSONResponse({request.url.path.rpartition("/")[2]: True})

    async def about_export(request: Request) -> Response:
        return Response(contract.as_json(), media_type="application/json")

    async def answer(request: Request) -> Response:
        model, body = named(request), await read_body(request)
        return JSONResponse(await run_in_threadpool(infer, policy, model, body))

    async def wrong(request: Request, error: Exception) -> Response:
        code, why = 400, str(error)
        if isinstance(error, HTTPException):
            code, why = error.status_code, error.detail
        return JSONResponse({"error": why}, code)

    routes = [
        Route("/v2", about_server),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", live),
        Route("/contract.json", about_export),
    ]
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        routes += [
            Route(path, about_model),
            Route(f"{path}/ready", ready),
            Route(f"{path}/infer", answer, methods=["POST"]),
        ]
    handlers: Any = {UserError: wrong, HTTPException: wrong}
    return Starlette(routes=routes, exception_handlers=handlers)


def main() -> None:
    """Serve the export that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="folder of the export, such as runs/x/export")
    parser.add_argument("--host", default="127.0.0.1", help="address; the default is loopback")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--format", default="saved_model", choices=list(MODULES))
    parser.add_argument(
        "--clients", type=int, default=MOST_CLIENTS, help="clients whose hidden is kept"
    )
    asked = parser.parse_args()
    try:
        policy = Policy(asked.folder, asked.format, asked.clients)
    except UserError as error:
        sys.exit(f"rest_server: {error}")
    print(f"serving {asked.folder} at http://{asked.host}:{asked.port}/v2/models/act", flush=True)
    uvicorn.run(
        make_app(policy, asked.format), host=asked.host, port=asked.port, log_level="warning"
    )


if __name__ == "__main__":
    main()
