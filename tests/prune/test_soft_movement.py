"""Soft movement pruning against PyTorch's autograd, and the promises of its docstring."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_network import KERNELS, RULES, batches, initial, train

from sparsejax import prune


def soft(
    schedule: prune.Schedule, penalty: Any, rate: Any = 0.1, **options: Any
) -> optax.GradientTransformationExtraArgs:
    return prune.soft_movement(
        optax.adamw(1e-2), optax.adam(rate), schedule, RULES, penalty=penalty, **options
    )


# A threshold of 0.45 is a score of -0.2, which fifty steps of 0.03 reach.
GRADUAL = prune.cubic(0.45, begin=5, end=42)
SPARSE = prune.cubic(0.45, begin=5, end=42, interval=4)  # 42 is not on the grid 5, 9, ..


def pytorch_run(
    schedule: prune.Schedule, optimizer: str, penalty: float, rows: int, columns: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[dict[str, np.ndarray]], float]:
    """Weights and scores in the end, masks after each step, the least gap at the threshold."""
    torch = pytest.importorskip("torch")

    class StraightThrough(torch.autograd.Function):  # type: ignore[misc, name-defined]
        @staticmethod
        def forward(context: Any, scores: Any, mask: Any) -> Any:
            return mask.clone()

        @staticmethod
        def backward(context: Any, grad: Any) -> Any:
            return grad, None

    weights = {
        f"{layer}/{name}": torch.tensor(np.array(value), requires_grad=True)
        for layer, leaves in initial().items()
        for name, value in leaves.items()
    }
    scores = {
        name: torch.zeros(
            weights[name].shape[0] // rows, weights[name].shape[1] // columns, requires_grad=True
        )
        for name in KERNELS
    }
    units = {name: torch.ones_like(score) for name, score in scores.items()}
    weight_optimizer = {
        "adamw": lambda w: torch.optim.AdamW(w, 1e-2, weight_decay=0.1, eps=1e-8),
        "sgd": lambda w: torch.optim.SGD(w, 0.05, momentum=0.9),
    }[optimizer](weights.values())
    score_optimizer = torch.optim.Adam(scores.values(), 0.03, eps=1e-8)
    history, least_gap = [], np.inf
    for t, (x, y) in enumerate(zip(*map(torch.tensor, batches()), strict=True)):
        rising = min(max((t - schedule.begin) / (schedule.end - schedule.begin), 0.0), 1.0)
        tau = schedule.final * (1 - (1 - rising) ** 3)
        used = dict(weights)
        for name in KERNELS:
            mask = StraightThrough.apply(scores[name], units[name])
            mask = mask.repeat_interleave(rows, 0).repeat_interleave(columns, 1)
            used[name] = weights[name] * mask
        hidden = torch.tanh(x @ used["a/kernel"] + used["a/bias"])
        error = torch.mean((hidden @ used["b/kernel"] + used["b/bias"] - y) ** 2)
        means = torch.stack([torch.sigmoid(score).mean() for score in scores.values()])
        weight_optimizer.zero_grad()
        score_optimizer.zero_grad()
        (error + penalty * tau / schedule.final * means.mean()).backward()
        weight_optimizer.step()
        score_optimizer.step()
        due = (t - schedule.begin) % schedule.interval == 0 or t == schedule.end
        if t >= schedule.begin and due:
            for name, score in scores.items():
                importance = torch.sigmoid(score.detach())
                units[name] = (importance > tau).float()
                least_gap = min(least_gap, float((importance - tau).abs().min()))
        history.append(
            {
                name: unit.numpy().astype(bool).repeat(rows, 0).repeat(columns, 1)
                for name, unit in units.items()
            }
        )
    arrays = [{n: x.detach().numpy() for n, x in group.items()} for group in (weights, scores)]
    return arrays[0], arrays[1], history, least_gap


@pytest.mark.parametrize(
    ("schedule", "optimizer", "penalty", "pattern"),
    [
        (GRADUAL, "adamw", 1.0, None),
        (SPARSE, "sgd", 1.0, None),
        (GRADUAL, "sgd", 0.5, prune.Blocks(2, 2)),
        (SPARSE, "adamw", 1.0, prune.Blocks(2, 4)),
    ],
)
def test_fifty_steps_are_those_of_pytorch(
    schedule: prune.Schedule, optimizer: str, penalty: float, pattern: Any
) -> None:
    ours = {
        "adamw": optax.adamw(1e-2, weight_decay=0.1),
        "sgd": optax.sgd(0.05, momentum=0.9),
    }[optimizer]
    tx = prune.soft_movement(
        ours, optax.adam(0.03), schedule, RULES, penalty=penalty, pattern=pattern
    )
    sizes = (pattern.rows, pattern.columns) if pattern else (1, 1)
    want_weights, want_scores, want_masks, gap = pytorch_run(schedule, optimizer, penalty, *sizes)
    assert gap > 1e-6, "the seed is a bad one: float noise could flip a mask"
    params, state, masks = train(tx, initial())
    for name in KERNELS:
        want = np.stack([masks[name] for masks in want_masks])
        assert 0.05 < 1 - want[-1].mean() < 0.95
        np.testing.assert_array_equal(masks[name], want)
        layer = name.split("/")[0]
        got = state.scores[layer]["kernel"]
        np.testing.assert_allclose(got, want_scores[name], rtol=1e-5, atol=1e-5)
    for name, want in want_weights.items():
        layer, leaf = name.split("/")
        np.testing.assert_allclose(params[layer][leaf], want, rtol=1e-5, atol=1e-5)


def test_the_penalty_alone_moves_scores_by_its_derivative() -> None:
    # At a score of 0 the slope of the sigmoid is 1/4; two targets of 4 and of 2 weights.
    params = {"a": jnp.ones(4), "b": jnp.ones((2, 1))}
    for step, strength in ((0, 0.0), (1, 8.0)):  # lambda follows the threshold: both 0 at first
        tx = prune.soft_movement(
            optax.sgd(1.0), optax.sgd(1.0), prune.cubic(0.25, 0, 1), [(".*", True)], penalty=8.0
        )
        state = tx.init(params)._replace(step=jnp.int32(step))
        _, state = tx.update(jax.tree.map(jnp.zeros_like, params), state, params)
        assert state.scores["a"].tolist() == [-strength / 4 / (2 * 4)] * 4
        assert state.scores["b"].ravel().tolist() == [-strength / 4 / (2 * 2)] * 2


def test_more_penalty_prunes_more() -> None:
    zeros = []
    for penalty in (0.0, 1.0, 10.0):
        params, state, _ = train(soft(GRADUAL, penalty), initial())
        zeros.append(prune.audit(params, state).targets.zeros)
    assert zeros[0] < zeros[1] < zeros[2]


def test_pruned_weights_keep_their_value_and_come_back() -> None:
    params = {"w": jnp.array([1.0, 1.0])}
    tx = prune.soft_movement(
        optax.sgd(1.0), optax.sgd(1.0), prune.constant(0.4), [("w", True)], penalty=0.0
    )
    _, state = tx.update({"w": jnp.array([1.0, 0.25])}, tx.init(params), params)
    assert state.masks["w"].tolist() == [False, True]  # scores of -1 and -0.25
    assert prune.effective_params(params, state)["w"].tolist() == [0.0, 1.0]
    updates, state = tx.update({"w": jnp.array([-1.0, 0.0])}, state, params)
    assert updates["w"].tolist() == [0.0, 0.0]  # a pruned weight gets no gradient
    assert state.masks["w"].tolist() == [True, True]


def test_given_masks_stay_pruned_for_good() -> None:
    rng = np.random.default_rng(7)
    given = {"a/kernel": rng.random((8, 12)) < 0.5, "b/kernel": rng.random((12, 4)) < 0.5}
    params, state, masks = train(soft(GRADUAL, 1.0, masks=given), initial())
    for name in KERNELS:
        assert not np.any(np.asarray(masks[name]) & ~given[name])
    assert 0.5 < prune.audit(params, state).targets.sparsity < 1
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("hidden", [False, True])
def test_a_nan_in_a_compiled_step_is_found_by_the_audit(hidden: bool) -> None:
    params = {"w": jnp.array([1.0, 1.0])}
    tx = prune.soft_movement(
        optax.sgd(1.0), optax.sgd(1.0), prune.constant(0.4), [("w", True)], penalty=0.0
    )
    update = jax.jit(tx.update)
    _, state = update({"w": jnp.array([1.0, 0.0])}, tx.init(params), params)
    assert state.masks["w"].tolist() == [False, True]
    prune.audit(params, state)
    grads = {"w": jnp.zeros(2).at[0 if hidden else 1].set(jnp.nan)}
    updates, state = update(grads, state, params)
    with pytest.raises(ValueError, match=r"NaN .*w \(1\)"):
        prune.audit(optax.apply_updates(params, updates), state)
    with pytest.raises(ValueError, match="w"):
        tx.update(grads, tx.init(params), params)


def test_bfloat16_weights_have_float32_scores() -> None:
    params, state, _ = train(soft(GRADUAL, 1.0), initial(jnp.bfloat16))
    assert params["a"]["kernel"].dtype == jnp.bfloat16
    assert state.scores["a"]["kernel"].dtype == jnp.float32
    assert 0 < prune.audit(params, state).targets.sparsity < 1


def test_vmap_is_separate_runs_and_other_numbers_need_no_other_program() -> None:
    traces: list[None] = []

    def run(penalty: Any, rate: Any, final: Any, begin: Any, end: Any, interval: Any) -> Any:
        traces.append(None)
        return train(soft(prune.cubic(final, begin, end, interval), penalty, rate), initial())

    penalties, rates = np.array([0.0, 4.0], np.float32), np.array([0.1, 0.05], np.float32)
    together = jax.jit(jax.vmap(run, (0, 0, None, None, None, None)))
    got = {
        numbers: together(penalties, rates, np.float32(0.4), *numbers)
        for numbers in ((5, 42, 4), (3, 30, 7))
    }
    assert len(traces) == 1
    for (numbers, (params, _, masks)), i in zip(got.items(), (0, 1), strict=True):
        alone = jax.jit(run, static_argnums=(0, 1, 2, 3, 4, 5))
        own_params, _, own_masks = alone((0.0, 4.0)[i], (0.1, 0.05)[i], 0.4, *numbers)
        for name in KERNELS:
            np.testing.assert_array_equal(masks[name][i], own_masks[name])
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, atol=1e-6), params, own_params
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": prune.NofM(2, 4)}, "2:4"),
        ({"targets": [("w", prune.Target(pattern=prune.NofM(1, 4)))]}, "'w'.*1:4"),
        ({"targets": [("w", 0.5)]}, "'w'.*sparsity"),
        ({"targets": [("w", prune.Target(sparsity=0.5))]}, "'w'.*sparsity"),
        ({"schedule": prune.constant(0.0)}, "threshold must be above 0"),
        ({"schedule": prune.constant(np.float32(0.0))}, "threshold must be above 0"),
        ({"penalty": -1.0}, "penalty must be at least 0, got -1.0"),
        ({"penalty": float("nan")}, "penalty must be at least 0, got nan"),
        ({"penalty": np.float32(-1.0)}, "penalty must be at least 0"),
    ],
)
def test_errors(options: Any, message: str) -> None:
    arguments = {"schedule": prune.constant(0.1), "targets": [("w", True)], "penalty": 1.0}
    with pytest.raises(ValueError, match=message):
        prune.soft_movement(optax.sgd(0.1), optax.sgd(0.1), **(arguments | options))


def test_update_needs_params() -> None:
    tx, params = soft(GRADUAL, 1.0), initial()
    with pytest.raises(ValueError, match="soft_movement needs params"):
        tx.update(params, tx.init(params))
