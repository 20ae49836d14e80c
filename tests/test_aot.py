"""A training compiled for devices that are not there."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sparsejax import aot
from sparsejax.errors import UserError

# Where libtpu lies if not beside JAX, which would look for a TPU in every other program as well.
LIBTPU = os.environ.get("SPARSEJAX_LIBTPU")
CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SMALL = ("--topology", "v5e:4x4", "--rows", "64")
# Everything at once would be larger than a chip: 5.7 billion parameters and their moments.
LARGE = ("--model.width", "8192", "--model.intermediate", "32768", "--model.layers", "7")


def run(*flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own: libtpu and the devices of a process are for good."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TPU_", "JAX_", "XLA_"))}
    if LIBTPU:
        clean["PYTHONPATH"] = LIBTPU
    words = [sys.executable, "-m", "sparsejax.aot", *flags]
    return subprocess.run(
        words, capture_output=True, text=True, timeout=600, env=clean | environment
    )


def report(path: Path, *flags: str) -> tuple[dict[str, Any], str]:
    done = run(*flags, "--json", str(path))
    assert (done.returncode, done.stderr) == (0, "")  # nothing but the report is printed
    return json.loads(path.read_text()), done.stdout


def refused(*flags: str) -> str:
    """The one line that a command ends with."""
    done = run(*flags)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    return line


needs_libtpu = pytest.mark.skipif(
    not LIBTPU and importlib.util.find_spec("libtpu") is None,
    reason="no TPU compiler: pip install '.[tpu]'",
)


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The quickstart on 16 chips of a TPU."""
    return report(tmp_path_factory.mktemp("pod") / "aot.json", *SMALL)


@needs_libtpu
def test_a_pod(pod: tuple[dict[str, Any], str]) -> None:
    found, _ = pod
    assert (found["device"], found["devices"], found["hosts"]) == ("TPU v5 lite", 16, 4)
    assert found["training"]["rows"] == 4  # of 64, on each of 16
    assert found["memory"] == 16 * 2**30

    # Parameters and two moments in float32, and a byte of the mask for each weight of the encoder.
    encoder = 2 * (4 * 64 * 64 + 2 * 64 * 128)
    batch = 4 * 4 * 64 * 4
    state = 3 * 4 * found["parameters"] + encoder
    assert found["beside"] == pytest.approx(state, abs=100)  # and counters
    # The TPU lays arrays out in tiles, so they take more.
    assert state + batch <= found["training"]["memory"]["arguments"] < 1.3 * (state + batch)
    assert found["training"]["memory"]["outputs"] < 10_000  # the rest is where arguments were
    assert found["training"]["matrix_flops"] == 6 * (encoder + 64 * 7) * 4 * 64


@needs_libtpu
def test_the_gradient_is_all_that_a_pod_exchanges(pod: tuple[dict[str, Any], str]) -> None:
    found, _ = pod
    every = [one for one in found["training"]["collectives"] if one["on"] == "every step"]
    assert [one["kind"] for one in every] == ["all-reduce"]
    assert every[0]["devices"] == 16
    # The gradient but for the second token type's, which is zero; the loss, the number of labelled
    # pieces, and keys of the dropout.
    others = every[0]["bytes"] - 4 * (found["parameters"] - 64)
    assert 4 + 4 <= others < 1000
    assert not [one for one in found["training"]["collectives"] if one["on"] != "every step"]


@needs_libtpu
def test_what_is_printed(pod: tuple[dict[str, Any], str]) -> None:
    found, printed = pod
    assert "v5e:4x4: 16 devices (TPU v5 lite) of 4 hosts\n" in printed
    assert "Memory of each device, GiB, of 16.00" in printed
    assert "It is a bound, not a measurement" in printed
    longest = 1e3 * max(found["lower_bound"].values())
    assert f"lower bound of a training step: {longest:.2f} ms" in printed


@pytest.mark.slow
@needs_libtpu
def test_a_chip_of_v4_is_one_device() -> None:
    done = run("--topology", "v4:2x2x2", "--prune.method", "none", "--model.layers", "1")
    assert "v4:2x2x2: 8 devices (TPU v4) of 2 hosts\n" in done.stdout


@needs_libtpu
def test_what_does_not_fit_is_one_line() -> None:
    line = refused("--topology", "v5e:4x4", "--prune.method", "none", *LARGE)
    start = "error: a training step of 1 rows on each device needs "
    assert line.startswith(start)
    assert " of 15.75G of memory; lower --rows" in line
    assert "--parallel.fsdp" in line


@needs_libtpu
@pytest.mark.parametrize("topology", ["v9:4x4", "v5e:3x4", "v5e:16"])
def test_unknown_topologies(topology: str) -> None:
    line = refused("--topology", topology)
    assert line.startswith(f"error: topology: '{topology}' is not a TPU topology; known are v4:2x2")


def test_no_topology() -> None:
    known = "v4:2x2x2, v4:4x4x4, v5e:4x4, v5e:16x16, v5p:4x4x4, v6e:4x4, v6e:16x16"
    line = refused("--topology", "pod")
    wanted = f"error: topology: 'pod' is not a TPU topology; known are {known}, and local and gpu"
    assert line == wanted


def test_without_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    import jax

    from sparsejax.runtime import libtpu

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delenv("TPU_LIBRARY_PATH", raising=False)
    with pytest.raises(UserError) as error:
        libtpu.devices("v5e:4x4")
    wanted = f"pip install 'jax[tpu]=={jax.__version__}'"
    assert str(error.value) == f"topology: v5e:4x4 needs the TPU's compiler; {wanted}"


def test_the_compilers_own_words() -> None:
    import jax

    from sparsejax.runtime import ahead

    class Program:
        def __init__(self, text: str) -> None:
            self.text = text

        def compile(self) -> None:
            raise jax.errors.JaxRuntimeError(self.text)

    full = "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space "
    full += "hbm. Used 31.60G of 15.75G hbm. Exceeded hbm capacity by 15.85G.\n\nTotal hbm usage"
    with pytest.raises(
        UserError, match=r"^a step needs 31\.60G of 15\.75G of memory; lower --rows"
    ):
        ahead.compile_step(Program(full), "a step")
    parts = "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
    parts += "temporaries (85.02G) exceeds available HBM (15.75G)."
    with pytest.raises(
        UserError, match=r"^a step needs 85\.02G of 15\.75G of memory; lower --rows"
    ):
        ahead.compile_step(Program(parts), "a step")
    with pytest.raises(UserError, match=r"^a step needs RESOURCE_EXHAUSTED: something new; lower"):
        ahead.compile_step(Program("RESOURCE_EXHAUSTED: something new\nmore"), "a step")
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        ahead.compile_step(Program("INTERNAL: no fault of the user's"), "a step")


def test_more_than_a_device_has() -> None:
    from sparsejax.runtime import ahead

    ahead.refuse_more("a step", 2**30, 2**30)
    ahead.refuse_more("a step", 2**60, None)
    with pytest.raises(UserError, match=r"^a step needs 1\.50G of 1\.00G of memory; lower --rows"):
        ahead.refuse_more("a step", 3 * 2**29, 2**30)


def test_the_devices_at_hand(tmp_path: Path) -> None:
    flags = ("--topology", "local", "--parallel.cpu_devices", "8", "--rows", "5")
    found, printed = report(tmp_path / "aot.json", *flags)
    assert "local: 8 devices (cpu)\n" in printed
    assert "note: 5 rows a step leave 3 of 8 devices without any" in printed
    assert found["memory"] is None and found["lower_bound"] is None
    (exchange,) = found["training"]["collectives"]
    assert exchange["kind"] == "all-reduce" and exchange["devices"] == 8

    # The embeddings, the layers, the classifier.
    layer = 4 * (64 * 64 + 64) + 2 * 64 * 128 + 64 + 128 + 4 * 64
    parameters = 64 * (8000 + 64 + 2 + 2) + 2 * layer + 64 * 7 + 7
    assert found["parameters"] == parameters
    # The second token type has no gradient; the loss and its denominator.
    assert exchange["bytes"] == 4 * (parameters - 64) + 4 + 4


def test_divided_parameters_are_gathered(tmp_path: Path) -> None:
    flags = ("--parallel.cpu_devices", "4", "--rows", "4", "--model.layers", "1")
    whole, _ = report(tmp_path / "whole.json", *flags)
    divided, _ = report(tmp_path / "divided.json", *flags, "--parallel.fsdp", "4")
    memory = [found["training"]["memory"]["arguments"] for found in (whole, divided)]
    assert memory[1] < 0.3 * memory[0]
    kinds = [{one["kind"] for one in x["training"]["collectives"]} for x in (whole, divided)]
    assert "all-gather" in kinds[1] - kinds[0]


@pytest.mark.parametrize(
    ("method", "flags"),
    [
        ("movement", ("--prune.pattern", "2:4", "--prune.sparsity", "0.5")),
        pytest.param("movement", (), marks=pytest.mark.slow),
        pytest.param("soft_movement", (), marks=pytest.mark.slow),
        pytest.param("latent_magnitude", ("--prune.scope", "global"), marks=pytest.mark.slow),
        pytest.param("random", (), marks=pytest.mark.slow),
    ],
)
def test_every_method(method: str, flags: tuple[str, ...]) -> None:
    done = run("--prune.method", method, *flags, "--model.layers", "1", "--rows", "2")
    assert done.returncode == 0, done.stderr


def test_mbert_needs_no_network() -> None:
    import jax

    from sparsejax.models import bert
    from sparsejax.runtime import ahead

    config, _ = aot.parse(["--config", str(CONFIGS / "wikiann_mbert_magnitude.yaml")])
    model = ahead.shape_of(config)
    params = jax.eval_shape(lambda: bert.init(model, jax.random.key(0)))
    # As transformers counts BertForTokenClassification of it, with 7 labels.
    assert sum(x.size for x in jax.tree.leaves(params)) == 177_268_231


def test_models(tmp_path: Path) -> None:
    from sparsejax.runtime import ahead

    (tmp_path / "config.json").write_text('{"hidden_size": 24, "num_attention_heads": 3}')
    config, _ = aot.parse(["--model.path", str(tmp_path)])
    assert ahead.shape_of(config).hidden_size == 24
    with pytest.raises(UserError, match=r"^data.length: 600 is more than the model's 512 position"):
        ahead.shape_of(aot.parse(["--model.path", str(tmp_path), "--data.length", "600"])[0])
    with pytest.raises(UserError, match=r"^model.hub: the shape of 'a/b' is not known here"):
        ahead.shape_of(aot.parse(["--model.hub", "a/b"])[0])


def test_flags() -> None:
    config, asked = aot.parse(["--topology", "v5e:4x4", "--rows", "9", "--prune.sparsity", "0.5"])
    assert (asked.topology, asked.rows, asked.json) == ("v5e:4x4", 9, None)
    assert config.prune.sparsity == 0.5 and type(config).__name__ == "Config"
    for flags, wanted in (
        (["--rows", "0"], "rows: 0 is not at least 1"),
        (["--rows", "many"], "rows: 'many' is not a whole number"),
        (["--prune.sparsity", "2"], r"prune.sparsity: 2.0 is not in \[0, 1\)"),
        (["--topologie", "x"], "unknown flag --topologie .did you mean --topology.."),
    ):
        with pytest.raises(UserError, match=f"^{wanted}$"):
            aot.parse(flags)


def test_help_loads_no_jax() -> None:
    code = "import sys; from sparsejax import aot\ntry: aot.main(['--help'])\n"
    code += "except SystemExit: sys.exit('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "--topology" in done.stdout and "--train.batch_size" in done.stdout
