"""The loss, the schedules and the optimizer, against closed forms and numpy."""

from __future__ import annotations

from functools import partial
from typing import Any, get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsejax import prune
from sparsejax.config import Config, PruneConfig, TrainConfig
from sparsejax.data.tokenization import IGNORE
from sparsejax.models import bert
from sparsejax.runtime import optimization, steps

SMALL = bert.BertConfig(
    vocab_size=20,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=8,
    num_labels=7,
)


def random_batch(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    logits = rng.normal(size=(rows, 6, 7)).astype(np.float32)
    labels = rng.integers(0, 7, size=(rows, 6)).astype(np.int32)
    labels[rng.random(size=labels.shape) < 0.5] = IGNORE
    return logits, labels


def test_loss_is_the_mean_over_labelled_pieces() -> None:
    logits, labels = random_batch(np.random.default_rng(0), 5)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    losses = [-log_p[r, c, labels[r, c]] for r, c in np.argwhere(labels != IGNORE)]
    assert steps.masked_loss(logits, labels) == pytest.approx(np.mean(losses), rel=1e-6)


def test_padding_rows_change_neither_loss_nor_gradient() -> None:
    logits, labels = random_batch(np.random.default_rng(1), 4)
    padded = np.concatenate([logits, np.full((3, 6, 7), 9.0, np.float32)])
    ignored = np.concatenate([labels, np.full((3, 6), IGNORE, np.int32)])
    loss, grad = jax.value_and_grad(steps.masked_loss)(padded, ignored)
    expected, expected_grad = jax.value_and_grad(steps.masked_loss)(logits, labels)
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    np.testing.assert_allclose(grad[:4], expected_grad, rtol=1e-6)
    assert not np.any(grad[4:])


def test_loss_without_a_label_is_zero_and_finite() -> None:
    logits = np.zeros((1, 6, 7), np.float32)
    labels = np.full((1, 6), IGNORE, np.int32)
    loss, grad = jax.value_and_grad(steps.masked_loss)(logits, labels)
    assert loss == 0 and not np.any(grad)


@pytest.mark.parametrize("warmup", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("decay", ["linear", "constant"])
def test_learning_rate(decay: str, warmup: float) -> None:
    total, peak = 200, 3e-4
    rises = round(warmup * total)
    rate = optimization.learning_rate(peak, rises, total, decay)
    for step in range(total):
        if step < rises:
            expected = peak * step / rises
        elif decay == "constant":
            expected = peak
        else:
            expected = peak * (total - step) / (total - rises)
        assert float(rate(step)) == pytest.approx(expected, rel=1e-6, abs=1e-12), step


@pytest.mark.parametrize("warmup", [0, 1, 20, 100])
@pytest.mark.parametrize("decay", ["linear", "constant"])
def test_traced_numbers_give_the_learning_rate_of_optax(decay: Any, warmup: int) -> None:
    total, peak = 100, 2e-3
    rise = optax.linear_schedule(0.0, peak, warmup)
    fall = optax.linear_schedule(peak, 0.0 if decay == "linear" else peak, max(1, total - warmup))
    wanted = optax.join_schedules([rise, fall], [warmup])
    steps_made = np.arange(total)
    found = jax.jit(lambda *n: jax.vmap(optimization.learning_rate(*n, decay))(steps_made))(
        np.float32(peak), np.int32(warmup), np.int32(total)
    )
    np.testing.assert_allclose(found, jax.vmap(wanted)(steps_made), rtol=1e-5, atol=1e-9)


def test_weight_decay_spares_biases_and_norms() -> None:
    params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3), "scale": jnp.ones(3)}
    config = TrainConfig(learning_rate=0.1, warmup=0.0, decay="constant", weight_decay=0.5)
    tx, _, _ = made(Config(train=config, prune=PruneConfig(method="none")), 10)
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(zero, tx.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.1 * 0.5, rtol=1e-6)
    assert not np.any(updates["bias"]) and not np.any(updates["scale"])


@pytest.mark.parametrize("max_norm", [0.5, 50.0])
def test_gradients_are_clipped_as_optax_does(max_norm: float) -> None:
    rng = np.random.default_rng(0)
    grads = {"kernel": rng.normal(size=(9, 5)), "bias": rng.normal(size=5)}
    grads = jax.tree.map(jnp.float32, grads)
    wanted, _ = optax.clip_by_global_norm(max_norm).update(grads, optax.EmptyState())
    clip = optimization.clip_by_global_norm(jnp.float32(max_norm))
    norm = jnp.sqrt(sum(np.sum(np.square(g)) for g in grads.values()))
    for known in (None, norm):
        found, _ = clip.update(grads, clip.init(grads), grad_norm=known)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), found, wanted)


def test_clipping_at_the_edges() -> None:
    clip = optimization.clip_by_global_norm(jnp.float32(5.0))

    def clipped(*numbers: float, dtype: Any = jnp.float32) -> Any:
        found, _ = clip.update({"x": jnp.asarray(numbers, dtype)}, optax.EmptyState())
        assert found["x"].dtype == dtype
        return np.asarray(found["x"], np.float32)

    assert not clipped(0.0, 0.0).any()
    np.testing.assert_array_equal(clipped(3.0, 4.0), [3.0, 4.0])
    np.testing.assert_allclose(clipped(30.0, 40.0, dtype=jnp.bfloat16), [3.0, 4.0], rtol=4e-3)
    assert np.isnan(clipped(np.nan, 1.0)).all() and np.isnan(clipped(np.inf, 1.0)).any()


def made(config: Config, total: int) -> tuple[Any, optimization.Program, optimization.Numbers]:
    """The optimizer of a run of the small model, its program and its numbers."""
    program = optimization.program(config, SMALL)
    numbers = optimization.numbers(config, total)
    return optimization.optimizer(program, numbers), program, numbers


def small_config(method: Any, nonfinite: Any = "stop", **pruning: Any) -> Config:
    train = TrainConfig(warmup=0.0, nonfinite=nonfinite)
    return Config(train=train, prune=PruneConfig(method, **{"begin": 0.0, "end": 1.0} | pruning))


def small_state(config: Config) -> steps.TrainState:
    _, program, numbers = made(config, 4)
    return steps.initial(program, bert.init(SMALL, jax.random.key(0)), numbers)


def small_batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    names = ("tokens", "positions", "segments", "labels")
    tokens = rng.integers(0, 20, size=(2, 8)).astype(np.int32)
    positions = np.tile(np.arange(8, dtype=np.int32), (2, 1))
    ones = np.ones((2, 8), np.int32)
    return dict(zip(names, (tokens, positions, ones, tokens % 7), strict=True))


def train_step(config: Config, state: steps.TrainState, total: int = 4) -> Any:
    _, program, numbers = made(config, total)
    return steps.make_train_step(program)(state, small_batch(), numbers)


@pytest.mark.parametrize(
    "method",
    [
        *(pytest.param(m, marks=pytest.mark.slow) for m in ("none", "soft_movement")),
        *("magnitude", "movement"),
    ],
)
def test_one_compilation_for_all_steps(method: str) -> None:
    config = small_config(method)
    state = small_state(config)
    for _ in range(4):
        state, _ = train_step(config, state)
    assert steps.make_train_step(made(config, 4)[1])._cache_size() == 1
    assert int(state.step) == 4


def test_the_gradient_is_taken_where_pruned_weights_are_zero() -> None:
    """With every query at zero, attention does not depend on the keys: they get no gradient."""
    state = small_state(small_config("movement"))
    masks = {n: jnp.ones_like(m) for n, m in prune.masks_of(state.opt_state).items()}
    masks["encoder/layer_0/attention/query/kernel"] = jnp.zeros((8, 8), bool)
    config = small_config("movement", sparsity=0.5, begin=1.0)
    masked = jax.tree.map_with_path(lambda keys, _: masks[prune.path(keys)], state.opt_state.masks)
    state = state._replace(opt_state=state.opt_state._replace(masks=masked))
    before = jax.tree.map(np.asarray, state.params["encoder"]["layer_0"]["attention"])
    state, _ = train_step(config, state)
    scores = state.opt_state.scores["encoder"]["layer_0"]["attention"]
    assert not np.any(scores["key"]["kernel"])
    assert np.any(scores["value"]["kernel"]) and np.any(scores["query"]["kernel"])
    after = state.params["encoder"]["layer_0"]["attention"]["query"]["kernel"]
    np.testing.assert_allclose(after, before["query"]["kernel"], rtol=1e-4)  # decayed, not lost


METHODS = [
    pytest.param(name, marks=pytest.mark.slow) if name in ("random", "latent_magnitude") else name
    for name in get_args(get_type_hints(PruneConfig)["method"])
]


@pytest.mark.parametrize("method", METHODS)
def test_the_norm_that_is_clipped_is_that_of_what_the_weights_learn_from(method: Any) -> None:
    # One that is far too small: AdamW itself forgets the size of a gradient, but for its epsilon.
    train = TrainConfig(warmup=0.0, clip_norm=1e-8, learning_rate=1.0)
    config = Config(train=train, prune=PruneConfig(method, sparsity=0.9, begin=0.0, end=0.0))
    params = bert.init(SMALL, jax.random.key(0))
    masks = None
    if method == "fixed":
        rules = ((r"encoder/.*/kernel", True), (r".*", False))
        tx = prune.magnitude(prune.constant(0.9), rules)
        _, pruned = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
        masks = jax.tree.map(np.asarray, prune.masks_of(pruned))
        params = prune.apply_masks(params, masks)
    program, numbers = optimization.program(config, SMALL), optimization.numbers(config, 4)
    tx, step = optimization.optimizer(program, numbers, masks), steps.make_train_step
    state = steps.initial(program, params, numbers, masks)
    state, _ = step(program, masks=masks)(state, small_batch(), numbers)
    _, grads = jax.jit(steps.make_gradient(program))(state, small_batch(), numbers)
    # It finds the norm by itself.
    updates, _ = jax.jit(tx.update)(grads, state.opt_state, state.params)
    wanted = jax.tree.map(np.array, optax.apply_updates(state.params, updates))
    state, _ = step(program, masks=masks)(state, small_batch(), numbers)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), state.params, wanted)


def broken(state: steps.TrainState) -> steps.TrainState:
    """With a parameter that is not a number."""
    params = jax.tree.map(lambda p: p, state.params)
    params["classifier"]["bias"] = params["classifier"]["bias"].at[0].set(jnp.nan)
    return state._replace(params=params)


@pytest.mark.parametrize("method", ["none", "magnitude", "movement"])
def test_a_step_that_is_not_finite_changes_no_weight_nor_do_those_after_it(method: str) -> None:
    config = small_config(method)
    state, _ = train_step(config, small_state(config))
    good = jax.tree.map(np.array, state)
    state, values = train_step(config, broken(state))
    assert np.isnan(values["loss"]) and values["nonfinite"] == 1
    # Even where the next batch would be fine.
    state = state._replace(params=jax.tree.map(jnp.array, good.params))
    state, values = train_step(config, state)
    assert np.isfinite(values["loss"]) and values["nonfinite"] == 1
    assert state.step == 1
    jax.tree.map(np.testing.assert_array_equal, state.params, good.params)
    kept = (jax.tree.leaves(tree) for tree in (state.opt_state, good.opt_state))
    for found, wanted in zip(*kept, strict=True):
        if not np.issubdtype(wanted.dtype, np.floating):  # masks and counters
            np.testing.assert_array_equal(found, wanted)


def test_scores_that_decay_after_a_failure_change_no_mask() -> None:
    """Where masks were due on the last good step: it is the last one still."""
    config = small_config("movement", sparsity=0.5, begin=0.0, end=0.0, interval=3)
    state = small_state(config)
    for _ in range(4):
        state, _ = train_step(config, state, 8)
    masks = jax.tree.map(np.array, prune.masks_of(state.opt_state))
    scores = jax.tree.map(np.array, prune.scores_of(state.opt_state))
    state = broken(state)
    for _ in range(5):
        state, _ = train_step(config, state, 8)
    moved = prune.scores_of(state.opt_state)
    assert any(np.any(moved[name] != before) for name, before in scores.items())
    jax.tree.map(np.testing.assert_array_equal, prune.masks_of(state.opt_state), masks)


@pytest.mark.parametrize(
    "method",
    [pytest.param("none", marks=pytest.mark.slow), "magnitude", "movement"],
)
def test_a_step_that_is_skipped_is_one_with_a_gradient_of_zero(method: str) -> None:
    config = small_config(method, "skip")
    tx, state = made(config, 4)[0], small_state(config)
    zero = jax.tree.map(jnp.zeros_like, state.params)
    updates, opt_state = jax.jit(tx.update)(zero, state.opt_state, state.params)
    wanted = optax.apply_updates(state.params, updates)
    wanted["classifier"]["bias"] = state.params["classifier"]["bias"].at[0].set(jnp.nan)
    opt_state = jax.tree.map(np.array, opt_state)
    wanted = jax.tree.map(np.array, wanted)
    state, values = train_step(config, broken(state))
    assert values["nonfinite"] == 1 and state.step == 1
    close = partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-9)
    jax.tree.map(close, state.params, wanted)
    jax.tree.map(close, state.opt_state, opt_state)
