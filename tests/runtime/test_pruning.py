"""From the configuration to a transform: what is pruned, when, and what the audit lets pass."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsejax import prune
from sparsejax.config import PruneConfig
from sparsejax.errors import UserError
from sparsejax.models import bert
from sparsejax.runtime import pruning

MODEL = bert.BertConfig(
    vocab_size=20,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=32,
    max_position_embeddings=8,
    num_labels=7,
)
STEPS = 6


@pytest.fixture(scope="module")
def params() -> bert.Params:
    return bert.init(MODEL, jax.random.key(0))


def trained(config: PruneConfig, params: bert.Params, masks: Any = None) -> tuple[Any, Any]:
    """Six steps whose gradients are random."""
    rng = np.random.default_rng(1)  # not drawn in the program, which takes long to compile then
    tx = pruning.optimizer(
        config,
        MODEL,
        pruning.schedule(config, STEPS),
        optax.sgd(0.1),
        optax.adam(0.01),
        masks,
        key=jax.random.key(2),
        penalty=config.penalty,
    )
    if masks is not None:
        params = prune.apply_masks(params, masks)

    @jax.jit
    def step(params: bert.Params, state: Any, grads: bert.Params) -> tuple[bert.Params, Any]:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for _ in range(STEPS):
        grads = jax.tree.map(lambda p: rng.normal(size=p.shape).astype(np.float32), params)
        params, state = step(params, state, grads)
    return params, state


@pytest.mark.parametrize("method", ["magnitude", "movement"])
def test_the_host_knows_when_masks_are_due(method: Any) -> None:
    config = PruneConfig(method, begin=0.13, end=0.8, interval=7)
    due, when = pruning.due(config, 100), pruning.schedule(config, 100)
    found = [due(step) for step in range(100)]
    wanted = np.array(when.is_due(np.arange(100)))
    if method == "magnitude":  # hard: what is pruned in the end stays so
        wanted[81:] = False
    assert found == wanted.tolist()
    assert found[13] and found[80] and not found[14]
    assert not any(map(pruning.due(PruneConfig("none"), 100), range(100)))


@pytest.mark.parametrize("total", [1, 2, 10, 189, 1806])
@pytest.mark.parametrize(("begin", "end"), [(0.0, 1.0), (0.1, 0.7), (1.0, 1.0), (0.5, 0.5)])
def test_schedule_ends_within_the_run(total: int, begin: float, end: float) -> None:
    """Or the sparsity asked for would never be reached."""
    schedule = pruning.schedule(PruneConfig(begin=begin, end=end, sparsity=0.9), total)
    assert 0 <= schedule.begin <= schedule.end <= total - 1
    assert bool(schedule.is_due(schedule.end))


METHODS = ["magnitude", "latent_magnitude", "movement", "random"]
ZEROS = {  # of the two layers' matrices: 4 of 16 x 16 and 2 of 16 x 32 each
    ("weights", 0.9): 2 * (4 * (256 - 26) + 2 * (512 - 51)),
    ("2:4", 0.5): 2 * (4 * 128 + 2 * 256),
    ("8x8", 0.5): 2 * (4 * 128 + 2 * 256),
    ("heads", 0.5): 2 * 128,  # half of each attention/output
    ("neurons", 0.75): 2 * 384,  # three quarters of each mlp/output
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("pattern", "sparsity"), ZEROS)
def test_every_method_with_every_pattern(
    method: str, pattern: str, sparsity: float, params: bert.Params
) -> None:
    config = PruneConfig(method=method, sparsity=sparsity, pattern=pattern, interval=2)
    got, state = trained(config, params)
    report = pruning.audit(config, MODEL, got, state, STEPS)
    assert report.targets.zeros == ZEROS[pattern, sparsity]
    assert float(pruning.sparsity(state)) == pytest.approx(report.targets.sparsity, abs=1e-6)
    used = prune.effective_params(got, state)
    layer = used["encoder"]["layer_1"]
    if pattern == "heads":  # four heads, each 4 wide
        heads = np.asarray(layer["attention"]["output"]["kernel"]).reshape(4, 4 * 16)
        assert sorted(np.count_nonzero(heads, axis=1)) == [0, 0, 64, 64]
    if pattern == "neurons":
        rows = np.count_nonzero(layer["mlp"]["output"]["kernel"], axis=1)
        assert sorted(rows) == [0] * 24 + [16] * 8


@pytest.mark.parametrize("method", METHODS)
def test_global_scope(method: str, params: bert.Params) -> None:
    config = PruneConfig(method=method, sparsity=0.8, scope="global")
    got, state = trained(config, params)
    report = pruning.audit(config, MODEL, got, state, STEPS)
    assert report.targets == (3277, 3277, 4096)  # round(0.2 * 4096) = 819 are left
    # Not the same share of each, or it would not be global.
    assert len({count.sparsity for count in report.leaves.values()}) > 2


def test_embeddings(params: bert.Params) -> None:
    config = PruneConfig(embeddings=True)
    got, state = trained(config, params)
    leaves = pruning.audit(config, MODEL, got, state, STEPS).leaves
    assert leaves["embeddings/word/embedding"].zeros == 288  # of 20 x 16


def test_soft_movement_finds_its_sparsity(params: bert.Params) -> None:
    found = []
    for penalty in (0.0, 1e6):
        config = PruneConfig(method="soft_movement", penalty=penalty, threshold=0.498, interval=1)
        got, state = trained(config, params)
        found.append(pruning.audit(config, MODEL, got, state, STEPS).targets.sparsity)
    assert 0 < found[0] < 0.7
    assert found[1] > 0.95


def test_dense_has_no_state_and_an_audit(params: bert.Params) -> None:
    config = PruneConfig(method="none")
    got, state = trained(config, params)
    assert float(pruning.sparsity(state)) == 0
    report = pruning.audit(config, MODEL, got, state, STEPS)
    assert (report.targets.zeros, report.targets.size) == (0, 4096)


@pytest.mark.parametrize("method", ["fixed", "magnitude", "random", "movement"])
def test_a_pruned_model_is_the_start(method: str, params: bert.Params, tmp_path: Path) -> None:
    _, state = trained(PruneConfig(sparsity=0.5), params)
    prune.write_masks(tmp_path / "masks.safetensors", prune.masks_of(state))
    config = PruneConfig(
        method=method, sparsity=0.75, masks=str(tmp_path / "masks.safetensors"), interval=2
    )
    masks = pruning.read_masks(config)
    got, state = trained(config, params, masks)
    report = pruning.audit(config, MODEL, got, state, STEPS)
    assert report.targets.zeros == (2048 if method == "fixed" else 3072)
    for name, mask in prune.masks_of(state).items():
        assert not np.any(np.asarray(mask) & ~masks[name])  # none came back


def test_masks_that_are_sparser_than_what_is_asked_for(params: bert.Params) -> None:
    _, state = trained(PruneConfig(sparsity=0.9), params)
    masks = prune.masks_of(state)
    with pytest.raises(ValueError, match="masks keep 26 weights, fewer than the 64 that the"):
        trained(PruneConfig(sparsity=0.75), params, masks)


def test_masks_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prune.masks: .*none: No such file"):
        pruning.read_masks(PruneConfig(masks=str(tmp_path / "none")))
    (tmp_path / "bad").write_bytes(b"hello")
    with pytest.raises(UserError, match=r"prune.masks: .*bad: is damaged"):
        pruning.read_masks(PruneConfig(masks=str(tmp_path / "bad")))


def test_audit_refuses_what_was_not_asked_for(params: bert.Params) -> None:
    config = PruneConfig(sparsity=0.9)
    got, state = trained(config, params)
    with pytest.raises(UserError, match="sparsity is not the one asked for"):
        pruning.audit(dataclasses.replace(config, sparsity=0.8), MODEL, got, state, STEPS)
    got["classifier"]["bias"] = got["classifier"]["bias"].at[0].set(jnp.nan)
    with pytest.raises(UserError, match="NaN or infinity in classifier/bias"):
        pruning.audit(config, MODEL, got, state, STEPS)
