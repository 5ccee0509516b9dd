"""Starts the servers of examples/serve in processes, and a client that knows nothing of tfmix."""

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def serving(module, folder, *words):
    """Yields the port of a server in a process; module is of examples/serve."""
    command = [sys.executable, "-m", f"examples.serve.{module}", str(folder), *words]
    started = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert started.stdout.readline().startswith("serving ")
        yield started
    finally:
        started.terminate()
        started.wait(20)
        started.stdout.close()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Rest:
    """A client of the REST server; it knows names, shapes and types, and nothing of tfmix."""

    def __init__(self, port):
        self.port = port

    def call(self, path, body=None, method=None):
        """Returns status and answer."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        link.request(method or ("GET" if data is None else "POST"), path, data)
        found = link.getresponse()
        answer = json.loads(found.read())
        link.close()
        return found.status, answer

    def act(self, model, inputs, **parameters):
        """Returns status and outputs by name, or the error."""
        body = {"inputs": [tensor(name, x) for name, x in inputs.items()]}
        if parameters:
            body["parameters"] = parameters
        status, answer = self.call(f"/v2/models/{model}/infer", body)
        if status != 200:
            return status, answer["error"]
        return status, {
            one["name"]: np.reshape(one["data"], one["shape"]) for one in answer["outputs"]
        }


def tensor(name, x):
    """A tensor of the Open Inference Protocol."""
    x = np.asarray(x)
    kinds = {"f": "FP32", "b": "BOOL", "i": "INT32", "U": "BYTES"}
    return {
        "name": name,
        "shape": list(x.shape),
        "datatype": kinds[x.dtype.kind],
        "data": x.ravel().tolist(),
    }


def memory_of(process):
    """Resident memory of a process in MB."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@contextlib.contextmanager
def rest(folder, *words):
    """Yields a client of a REST server; skips if a package is missing."""
    for name in ("starlette", "uvicorn"):
        pytest.importorskip(name, reason=f"{name} is not installed (requirements-serve.txt)")
    port = free_port()
    with serving("rest_server", folder, f"--port={port}", *words) as process:
        client = Rest(port)
        client.process = process
        for _ in range(100):  # the line is printed a moment before the port is open
            with contextlib.suppress(ConnectionRefusedError):
                client.call("/v2/health/live")
                break
            time.sleep(0.1)
        yield client
