"""Times an exported policy: a step in each runtime, and requests to the two servers.

  python benchmarks/serve.py --out=serve.json

It exports an untrained team of simple_spread's size with a GRU of 64 units in every format that
can be made here, or reads the export of `--export`. A row of `steps` is the median time of one
step of the whole team, `hidden` passed from step to step, for B episodes in parallel; each runtime
has its own process. A row of `servers` is requests a second, and the median and the 99th
percentile of their times, for clients that send their next request when they have the answer.
Clients are threads of one process, which shares the machine with the server. Packages that are
missing leave rows out.
"""

from __future__ import annotations

import argparse
import http.client
import importlib.util
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

import tfmix  # noqa: E402  (before TensorFlow)
from tfmix.serving import Contract  # noqa: E402
from tfmix.serving.contract import FILES, Agent  # noqa: E402
from tfmix.serving.runtimes import open_signatures  # noqa: E402

BATCHES, CLIENTS = (1, 8, 64), (1, 8, 32)
RUNTIMES = {
    "saved_model": "TensorFlow",
    "tflite": "LiteRT",
    "onnx": "onnxruntime",
    "openvino": "OpenVINO",
}
WARM_UP = 20  # calls that do not count
Call = Callable[[], None]


def make_export(folder: Path) -> Path:
    """Export an untrained team of simple_spread's size."""
    from tfmix.config.schema import Config
    from tfmix.runs import export, formats
    from tfmix.training.team import make_algorithm
    from tfmix.types import EnvSpec

    n, o, a, h = 3, 18, 5, 64
    spec = EnvSpec("simple_spread", n, a, o, n * o, 25, (a,) * n)
    contract = Contract(
        algorithm="qmix",
        environment="simple_spread",
        seed=0,
        env_steps=0,
        greedy_return=None,
        tfmix=tfmix.__version__,
        git_commit="",
        obs_size=o,
        n_actions=a,
        hidden_size=h + a,
        agents=tuple(Agent(f"agent_{i}", o, a) for i in range(n)),
        formats=tuple(name for name in formats.TITLES if not formats.missing(name)),
    )
    algorithm = make_algorithm(Config(algo="qmix", hidden_size=h), spec)
    return export.export(algorithm, folder / "export", contract)


def random_inputs(contract: Contract, batch: int) -> dict[str, np.ndarray]:
    """Return inputs of `act` for the first step of B episodes."""
    n, random = len(contract.agents), np.random.default_rng(0)
    return {
        "obs": random.normal(size=[batch, n, contract.obs_size]).astype(np.float32),
        "legal": np.broadcast_to(np.asarray(contract.own_actions), [batch, n, contract.n_actions]),
        "hidden": np.zeros([batch, n, contract.hidden_size], np.float32),
    }


def open_act(folder: Path, runtime: str) -> Callable[..., Any]:
    """Return a function from the inputs of `act` to its outputs, in a runtime."""
    if runtime != "openvino":
        return open_signatures(folder, runtime)["act"]
    import openvino

    core = openvino.Core()
    hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    model = core.compile_model(core.read_model(str(folder)), "CPU", hints)

    def act(**inputs: np.ndarray) -> dict[str, np.ndarray]:
        found = model(inputs)
        return {name: found[i] for i, name in enumerate(("action", "hidden", "q"))}

    return act


def time_steps(folder: Path, runtime: str, seconds: float) -> list[dict[str, Any]]:
    """Return the median milliseconds of a step in a runtime, a row for each batch."""
    contract, act, rows = Contract.read(folder), open_act(folder, runtime), []
    for batch in BATCHES:
        inputs, times = random_inputs(contract, batch), []
        end = time.monotonic() + seconds
        while len(times) < 2 * WARM_UP or time.monotonic() < end:
            start = time.perf_counter()
            inputs["hidden"] = act(**inputs)["hidden"]
            times.append(time.perf_counter() - start)
        milliseconds = 1000 * float(np.median(times[WARM_UP:]))
        rows.append({"runtime": RUNTIMES[runtime], "batch": batch, "ms": round(milliseconds, 4)})
    return rows


def size_of(folder: Path, runtime: str) -> int:
    """Return the bytes of a format's files; those of `act` if each signature has its own."""
    if runtime in ("saved_model", "openvino"):
        parts = [folder / "saved_model.pb", *(folder / "variables").iterdir()]
    else:
        parts = [folder / FILES[runtime]["act"]]
    return sum(path.stat().st_size for path in parts)


def rest_call(port: int, contract: Contract) -> Call:
    """Return a function that sends one request to the REST server and waits for its answer."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    kinds = {"float32": "FP32", "bool": "BOOL"}
    body = json.dumps(
        {
            "inputs": [
                {
                    "name": name,
                    "shape": list(x.shape),
                    "datatype": kinds[x.dtype.name],
                    "data": x.ravel().tolist(),
                }
                for name, x in random_inputs(contract, 1).items()
            ]
        }
    )

    def call() -> None:
        link.request("POST", "/v2/models/act/infer", body)
        answer = link.getresponse()
        if answer.status != 200:
            raise RuntimeError(answer.read().decode())
        answer.read()

    return call


def grpc_call(port: int, contract: Contract) -> Call:
    """Return a function that sends one request to the gRPC server and waits for its answer."""
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    own = [("grpc.use_local_subchannel_pool", 1)]  # each client has its own connection
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", own)
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "team", "act"
    for name, x in random_inputs(contract, 1).items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(x))
    return lambda: stub.Predict(request, timeout=60) and None


def time_clients(make: Callable[[], Call], clients: int, seconds: float) -> dict[str, Any]:
    """Return requests a second, and their median and 99th percentile in milliseconds."""
    calls, times = [make() for _ in range(clients)], [[] for _ in range(clients)]
    for call in calls:
        for _ in range(WARM_UP):
            call()
    end = time.monotonic() + seconds

    def work(call: Call, own: list[float]) -> None:
        while time.monotonic() < end:
            start = time.perf_counter()
            call()
            own.append(time.perf_counter() - start)

    threads = [threading.Thread(target=work, args=x) for x in zip(calls, times, strict=True)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = np.concatenate([np.asarray(own) for own in times])
    p50, p99 = (1000 * float(x) for x in np.percentile(every, [50, 99]))
    rate = len(every) / (time.monotonic() - began)
    return {"per_second": round(rate, 1), "p50_ms": round(p50, 3), "p99_ms": round(p99, 3)}


def time_server(folder: Path, kind: str, seconds: float) -> list[dict[str, Any]]:
    """Start a server of examples/serve, and return a row for each number of clients."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    module = f"examples.serve.{kind}_server"
    command = [sys.executable, "-m", module, str(folder), f"--port={port}"]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        if not server.stdout.readline().startswith("serving "):
            raise RuntimeError(f"{module} did not start")
        time.sleep(1.0)  # the REST server opens its port a moment later
        contract, make = Contract.read(folder), {"rest": rest_call, "grpc": grpc_call}[kind]
        return [
            {
                "server": kind,
                "clients": n,
                **time_clients(lambda: make(port, contract), n, seconds),
            }
            for n in CLIENTS
        ]
    finally:
        server.terminate()
        server.wait(30)


def can_time(name: str, made: tuple[str, ...]) -> bool:
    """Return whether a runtime or server can be timed here."""
    needed = {"openvino": "openvino", "rest": "starlette", "grpc": "tensorflow_serving"}
    if name in FILES:
        return name in made
    return importlib.util.find_spec(needed[name]) is not None


def measure(folder: Path, seconds: float) -> dict[str, Any]:
    """Measure everything that can be measured here, and print each row."""
    made = Contract.read(folder).formats
    steps, servers = [], []
    for runtime in filter(lambda name: can_time(name, made), RUNTIMES):
        command = [sys.executable, __file__, f"--runtime={runtime}", f"--seconds={seconds}"]
        done = subprocess.run([*command, f"--export={folder}"], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr[-1000:])
        for row in json.loads(done.stdout.splitlines()[-1]):
            steps.append({**row, "bytes": size_of(folder, runtime)})
            print(steps[-1], flush=True)
    for kind in filter(lambda name: can_time(name, made), ("rest", "grpc")):
        for row in time_server(folder, kind, seconds):
            servers.append(row)
            print(row, flush=True)
    machine = {"cores": os.cpu_count(), "system": platform.platform()}
    return {"steps": steps, "servers": servers, "machine": machine}


def as_tables(found: dict[str, Any]) -> str:
    """Return the rows as the tables of docs/data have them, without commit, date and machine."""
    by_runtime: dict[str, list[dict[str, Any]]] = {}
    for row in found["steps"]:
        by_runtime.setdefault(row["runtime"], []).append(row)
    lines = ["runtime,kB," + ",".join(f"ms at B = {batch}" for batch in BATCHES)]
    for runtime, rows in by_runtime.items():
        times = ",".join(f"{row['ms']:.3f}" for row in rows)
        lines.append(f"{runtime},{rows[0]['bytes'] / 1000:.0f},{times}")
    lines += ["", "server,clients,requests per second,p50 ms,p99 ms"]
    lines += [
        f"{row['server']},{row['clients']},{row['per_second']:.0f},{row['p50_ms']:.1f},"
        f"{row['p99_ms']:.1f}"
        for row in found["servers"]
    ]
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--export", help="folder of an export; without it an untrained team's")
    parser.add_argument("--out", help="JSON file for the rows")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each row")
    parser.add_argument("--runtime", help="time this runtime alone, in this process")
    asked = parser.parse_args()
    if asked.runtime:
        print(json.dumps(time_steps(Path(asked.export), asked.runtime, asked.seconds)))
        return
    with tempfile.TemporaryDirectory() as spare:
        folder = Path(asked.export) if asked.export else make_export(Path(spare))
        found = measure(folder, asked.seconds)
    print(as_tables(found))
    if asked.out:
        Path(asked.out).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
