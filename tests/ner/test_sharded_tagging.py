"""Devices and processes share the rows: every word is tagged once, as on a single device."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# What every process does; a process cannot change the number of its devices afterwards.
SCRIPT = """
import sys
import jax, numpy as np
devices, processes, process, port, path = *map(int, sys.argv[1:5]), sys.argv[5]
jax.config.update("jax_num_cpu_devices", devices)
jax.config.update("jax_cpu_enable_async_dispatch", False)
if processes > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", processes, process)
assert (jax.device_count(), jax.local_device_count()) == (devices * processes, devices)

from sparsejax.data.tokenization import Encoded
from sparsejax.models import bert
from sparsejax.ner import tagging
from sparsejax.runtime import parallel

tagging.max_rows = lambda mesh, length: 2  # on each device, so that there are several batches
mesh = parallel.make_mesh()
config = bert.BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_labels=7,
    num_attention_heads=2, intermediate_size=16, max_position_embeddings=8, initializer_range=1.0)
params = parallel.place(bert.init(config, jax.random.key(0)), parallel.whole(mesh))
predict = tagging.make_predict(config, "float32", mesh)
found = {}
for rows in (1, 3, 8, 9, 31, 32, 33, 40):
    rng = np.random.default_rng(rows)
    # Every chunk fills a row: 6 words, each of one piece.
    labels = np.tile([-100, 0, 0, 0, 0, 0, 0, -100], rows).astype(np.int32)
    part = Encoded(rng.integers(4, 50, 8 * rows).astype(np.int32), labels,
        np.full(rows, 8, np.int32), np.full(rows, 6, np.int32), np.zeros(4, np.int64))
    half = rows // 2
    cut = lambda a, b, c: Encoded(part.tokens[8*a:8*b], part.labels[8*a:8*b], part.lengths[a:b],
                                  part.words[a:b], part.repairs)
    parts = {"a": cut(0, half, 0), "b": cut(half, rows, 0)} if half else {"b": part}
    tagged = tagging.tag(predict, params, parts, 8, 0, mesh)
    for code, (ids, confidence) in tagged.items():
        found[f"{rows}/{code}/ids"], found[f"{rows}/{code}/confidence"] = ids, confidence
np.savez(path, **found)
"""


def run(path: Path, devices: int, processes: int = 1) -> list[dict[str, np.ndarray]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    files = [path / f"{devices}-{processes}-{i}.npz" for i in range(processes)]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *map(str, (devices, processes, i, port, files[i]))],
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(processes)
    ]
    for process in running:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    return [dict(np.load(file)) for file in files]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    (found,) = run(tmp_path_factory.mktemp("alone"), 1)
    assert len({*found["40/a/ids"].tolist()}) > 3  # or equal answers would prove little
    for rows in (1, 3, 8, 9, 31, 32, 33, 40):
        words = sum(len(v) for name, v in found.items() if name.startswith(f"{rows}/"))
        assert words == 2 * 6 * rows  # ids and confidences
    return found


@pytest.mark.parametrize(("devices", "processes"), [(2, 1), (8, 1), (1, 2), (4, 2)])
def test_as_on_one_device(
    alone: dict[str, np.ndarray], tmp_path: Path, devices: int, processes: int
) -> None:
    for found in run(tmp_path, devices, processes):
        assert set(found) == set(alone)
        for name, value in alone.items():
            if name.endswith("ids"):
                np.testing.assert_array_equal(found[name], value)
            else:
                np.testing.assert_allclose(found[name], value, rtol=1e-5)
