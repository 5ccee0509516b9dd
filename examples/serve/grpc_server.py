"""Serves an export over gRPC as TensorFlow Serving's PredictionService, on this machine alone.

    python -m examples.serve.grpc_server runs/x/export

A client of TensorFlow Serving works unchanged. docs/serving.md shows one.
It needs requirements-serve.txt.
"""

from __future__ import annotations

import argparse
import math
import sys
from concurrent import futures
from typing import Any

import grpc
import numpy as np

from tfmix import UserError  # before tensorflow
from tfmix.serving import Policy
from tfmix.serving.runtimes import MODULES
from tfmix.utils import text
from tfmix.utils.quiet import quiet_import

tf = quiet_import("tensorflow")

from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc  # noqa: E402

MOST_VALUES = 4 * 2**20  # of a tensor; gRPC itself refuses messages of more than 4 MB


def read_array(name: str, tensor: Any) -> np.ndarray:
    """Return a TensorProto as an array; raise UserError if it is none."""
    sizes = [dimension.size for dimension in tensor.tensor_shape.dim]
    # TensorFlow repeats a short list of values up to the shape, which may be huge.
    if min(sizes, default=0) < 0 or math.prod(sizes) > MOST_VALUES:
        raise UserError(f"{text.clean(name, 40)} has shape {sizes}, which is too large")
    try:
        found: np.ndarray = tf.make_ndarray(tensor)
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(
            f"{text.clean(name, 40)} is not a tensor: {text.clean(error, 100)}"
        ) from error
    return found


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers Predict; the client keeps `hidden`, as with TensorFlow Serving.

    Args:
      policy: the policy.
      name: the model's name.
    """

    def __init__(self, policy: Policy, name: str):
        self.policy, self.name = policy, name

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Call the signature that the request names; without a name `serving_default`."""
        asked = request.model_spec
        if asked.name != self.name:
            context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"there is no model {text.clean(repr(asked.name), 60)}, but {self.name!r}",
            )
        signature = asked.signature_name or "serving_default"
        try:
            inputs = {name: read_array(name, x) for name, x in request.inputs.items()}
            out = self.policy.infer(signature, inputs)
        except UserError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        response = predict_pb2.PredictResponse()
        response.model_spec.name, response.model_spec.signature_name = self.name, signature
        for name, array in out.items():
            if not request.output_filter or name in request.output_filter:
                response.outputs[name].CopyFrom(tf.make_tensor_proto(array))
        return response


def make_server(policy: Policy, name: str, address: str, threads: int = 8) -> tuple[Any, int]:
    """Return a server that is not started, and its port.

    Args:
      policy: the policy.
      name: the model's name.
      address: such as `127.0.0.1:8500`; port 0 is any that is free.
      threads: requests that are answered at the same time.
    """
    server = grpc.server(futures.ThreadPoolExecutor(threads))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        Service(policy, name), server
    )
    return server, server.add_insecure_port(address)


def main() -> None:
    """Serve the export that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="folder of the export, such as runs/x/export")
    parser.add_argument("--host", default="127.0.0.1", help="address; the default is loopback")
    parser.add_argument("--port", type=int, default=8500)
    parser.add_argument("--name", default="team", help="the model's name")
    parser.add_argument("--format", default="saved_model", choices=list(MODULES))
    asked = parser.parse_args()
    try:
        policy = Policy(asked.folder, asked.format)
        server, port = make_server(policy, asked.name, f"{asked.host}:{asked.port}")
    except (UserError, RuntimeError) as error:
        sys.exit(f"grpc_server: {text.clean(error)}")
    server.start()
    print(f"serving {asked.folder} as {asked.name} at {asked.host}:{port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
