"""What bench/profile_step.py makes of the names of kernels, and a run of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"

# As XLA writes them for a GPU and for a CPU, shortened.
PROGRAM = """
  %fusion.7 = bf16[2]{0} fusion(%a), metadata={op_name="f/jvp(Bert)/encoder/layer_0/mlp/mul"}
  ROOT %loop_add_fusion.2 = f32[2]{0} fusion(%b), metadata={op_name="f/while/body/add" frame=1}
  %reduce.3 = f32[2]{0} fusion(), metadata={op_name="f/transpose(jvp(Bert))/x/mlp/norm/reduce_sum"}
  %ynn_fusion.1 = f32[2]{0} fusion(), metadata={op_name="f/jvp(Bert)/x/attention/dot_general"}
  %input_scatter_fusion = f32[2]{0} fusion(), metadata={op_name="f/jvp(Bert)/embeddings/add"}
  %no_metadata.4 = f32[2]{0} fusion(%c)
  %while.5 = (s32[], f32[2]{0}) while(%t), body=%b, metadata={op_name="f/while"}
  %reduce-scatter.6 = f32[2]{0} reduce-scatter(%g), metadata={op_name="f/transpose(jvp(Bert))/add"}
"""


@pytest.fixture
def profile_step(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    import profile_step

    return profile_step


def test_what_kernels_are_for(profile_step: ModuleType) -> None:
    known = profile_step.purposes(PROGRAM)
    ran = [("fusion_7", 3.0), ("fusion_7", 1.0), ("loop_add_fusion_2", 2.0), ("reduce.3", 1.0)]
    ran += [("nvjet_sm90_tst_128x160_64x5_2x4_h_bz_NTT", 8.0), ("ynn_fusion.1", 2.0)]
    ran += [("input_scatter_fusion", 6.0), ("MemcpyD2H", 50.0), ("no_metadata_4", 50.0)]
    ran += [("while_5", 100.0), ("reduce_scatter_6", 0.5)]
    found = profile_step.summary(ran, known, steps=2)
    assert found["groups"] == {
        "matrix products": {"ms": 5.0, "kernels": 1.0},
        "gradients of embeddings": {"ms": 3.0, "kernels": 0.5},
        "forward, mlp": {"ms": 2.0, "kernels": 1.0},
        "update": {"ms": 1.0, "kernels": 0.5},
        "backward, norm": {"ms": 0.5, "kernels": 0.5},
        "backward, rest": {"ms": 0.25, "kernels": 0.5},
    }
    assert found["ms_of_others"] == 100.0
    longest = next(iter(found["longest"]))
    assert longest == "nvjet_sm90_tst_128x160_64x5_2x4_h_bz_NTT: a library"


def test_a_run(shared: Path, tmp_path: Path) -> None:
    out = tmp_path / "profile.json"
    line = [sys.executable, str(BENCH / "profile_step.py"), "--shared", str(shared)]
    subprocess.run([*line, "--batch", "8", "--sentences", "20", "--out", str(out)], check=True)
    report = json.loads(out.read_text())
    groups = report["groups"]
    assert report["ms_of_a_step"] > 0
    for name in (
        "matrix products",
        "forward, attention",
        "backward, mlp",
        "gradients of embeddings",
        "update",
    ):
        assert groups[name]["ms"] > 0 < groups[name]["kernels"]
