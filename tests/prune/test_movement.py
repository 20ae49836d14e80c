"""Movement pruning against PyTorch's autograd, and the promises of its docstring."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_network import KERNELS, RULES, batches, initial, loss, train

from sparsejax import prune


def stepper(tx: optax.GradientTransformationExtraArgs) -> Callable[..., Any]:
    @jax.jit
    def step(params: Any, state: Any, grads: Any) -> Any:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


def sgd(schedule: prune.Schedule, **options: Any) -> optax.GradientTransformationExtraArgs:
    """On one vector w: plain SGD at a rate of 1, scores too."""
    return prune.movement(optax.sgd(1.0), optax.sgd(1.0), schedule, [("w", True)], **options)


# The equations, in PyTorch: its autograd knows nothing of ours.


def pytorch_run(
    schedule: prune.Schedule, optimizer: str, scope: str, pattern: Any
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[dict[str, np.ndarray]], float]:
    """Weights and scores in the end, masks after each step, the least gap at any threshold."""
    torch = pytest.importorskip("torch")

    class StraightThrough(torch.autograd.Function):  # type: ignore[misc, name-defined]
        @staticmethod
        def forward(context: Any, scores: Any, mask: Any) -> Any:
            return mask.clone()

        @staticmethod
        def backward(context: Any, grad: Any) -> Any:
            return grad, None

    rows, columns = (pattern.rows, pattern.columns) if isinstance(pattern, prune.Blocks) else (1, 1)
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
        "adam": lambda w: torch.optim.Adam(w, 1e-2, eps=1e-8),
        "sgd": lambda w: torch.optim.SGD(w, 0.05, momentum=0.9),
    }[optimizer](weights.values())
    score_optimizer = torch.optim.Adam(scores.values(), 3e-2, eps=1e-8)

    def top(groups: np.ndarray, kept: int) -> tuple[np.ndarray, float]:
        """The highest of each row, and the least distance of a kept from a pruned one."""
        ranked = -np.sort(-groups, axis=-1)
        if kept == groups.shape[-1]:
            return np.ones_like(groups), np.inf
        gap = float((ranked[:, kept - 1] - ranked[:, kept]).min())
        return (groups >= ranked[:, kept - 1, None]).astype(np.float32), gap

    history, least_gap = [], np.inf
    for t, (x, y) in enumerate(zip(*map(torch.tensor, batches()), strict=True)):
        used = dict(weights)
        for name in KERNELS:
            mask = StraightThrough.apply(scores[name], units[name])
            mask = mask.repeat_interleave(rows, 0).repeat_interleave(columns, 1)
            used[name] = weights[name] * mask
        hidden = torch.tanh(x @ used["a/kernel"] + used["a/bias"])
        error = torch.mean((hidden @ used["b/kernel"] + used["b/bias"] - y) ** 2)
        weight_optimizer.zero_grad()
        score_optimizer.zero_grad()
        error.backward()
        weight_optimizer.step()
        score_optimizer.step()

        begin, end = schedule.begin, schedule.end
        if t >= begin and ((t - begin) % schedule.interval == 0 or t == end):
            left = max(0.0, 1 - (t - begin) / (end - begin)) ** 3
            density = 1 - schedule.final * (1 - left)
            now = {name: score.detach().numpy() for name, score in scores.items()}
            if isinstance(pattern, prune.NofM):
                for name, score in now.items():  # groups of four inputs of the same output
                    kept = max(round(density * 4), 2)
                    mask, gap = top(score.T.reshape(-1, 4), kept)
                    units[name] = torch.tensor(mask.reshape(score.T.shape).T.copy())
                    least_gap = min(least_gap, gap)
            elif scope == "global":
                together = np.concatenate([score.ravel() for score in now.values()])
                mask, least = top(together[None], round(density * together.size))
                parts = np.split(mask[0], np.cumsum([score.size for score in now.values()])[:-1])
                for (name, score), part in zip(now.items(), parts, strict=True):
                    units[name] = torch.tensor(part.reshape(score.shape))
                least_gap = min(least_gap, least)
            else:
                for name, score in now.items():
                    mask, gap = top(score.reshape(1, -1), round(density * score.size))
                    units[name] = torch.tensor(mask.reshape(score.shape))
                    least_gap = min(least_gap, gap)
        history.append(
            {
                name: unit.numpy().astype(bool).repeat(rows, 0).repeat(columns, 1)
                for name, unit in units.items()
            }
        )
    arrays = [{n: x.detach().numpy() for n, x in group.items()} for group in (weights, scores)]
    return arrays[0], arrays[1], history, least_gap


# Adam's first step is a sign, so that after it nearly all scores are tied: begin later.
GRADUAL = prune.cubic(0.7, begin=5, end=42, interval=1)
SPARSE = prune.cubic(0.7, begin=5, end=42, interval=4)  # 42 is not on the grid 5, 9, ..
HALF = prune.cubic(0.5, begin=5, end=30, interval=3)


@pytest.mark.parametrize(
    ("schedule", "optimizer", "scope", "pattern"),
    [
        (GRADUAL, "adamw", "tensor", None),
        (SPARSE, "sgd", "tensor", None),
        (GRADUAL, "sgd", "global", None),
        (SPARSE, "adamw", "global", None),
        (GRADUAL, "adam", "tensor", prune.Blocks(2, 4)),
        (SPARSE, "adamw", "global", prune.Blocks(2, 2)),
        (HALF, "adamw", "tensor", prune.NofM(2, 4)),
    ],
)
def test_fifty_steps_are_those_of_pytorch(
    schedule: prune.Schedule, optimizer: str, scope: Any, pattern: Any
) -> None:
    ours = {
        "adamw": optax.adamw(1e-2, weight_decay=0.1),
        "adam": optax.adam(1e-2),
        "sgd": optax.sgd(0.05, momentum=0.9),
    }[optimizer]
    tx = prune.movement(ours, optax.adam(3e-2), schedule, RULES, scope=scope, pattern=pattern)
    want_weights, want_scores, want_masks, gap = pytorch_run(schedule, optimizer, scope, pattern)
    assert gap > 1e-6, "the seed is a bad one: float noise could flip a mask"
    params, state, masks = train(tx, initial())
    for name in KERNELS:
        want = np.stack([masks[name] for masks in want_masks])
        assert 0.4 < 1 - want[-1].mean() < 0.85
        assert pattern or np.any(want[1:] & ~want[:-1])  # some came back
        np.testing.assert_array_equal(masks[name], want)
        layer = name.split("/")[0]
        np.testing.assert_allclose(
            state.scores[layer]["kernel"], want_scores[name], rtol=1e-5, atol=1e-5
        )
    for name, want in want_weights.items():
        layer, leaf = name.split("/")
        np.testing.assert_allclose(params[layer][leaf], want, rtol=1e-5, atol=1e-5)


def test_none_is_the_whole_axis_of_each_target() -> None:
    schedule = prune.cubic(0.5, begin=5, end=30)
    whole = [("./kernel", prune.Target(pattern=prune.Blocks(1, None))), (".*", False)]
    numbers = [
        ("a/kernel", prune.Target(pattern=prune.Blocks(1, 12))),
        ("b/kernel", prune.Target(pattern=prune.Blocks(1, 4))),
        (".*", False),
    ]
    runs = [
        train(prune.movement(optax.adam(1e-2), optax.adam(3e-2), schedule, rules), initial())
        for rules in (whole, numbers)
    ]
    assert runs[0][1].scores["a"]["kernel"].shape == (8, 1)
    jax.tree.map(np.testing.assert_array_equal, *runs)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_scores_say_which_weights_grow(sign: float) -> None:
    # A score falls by g * W: all four are negative where weights shrink, and are ranked so.
    params = {"w": jnp.array([1.0, -1.0, 2.0, -2.0])}
    grads = {"w": sign * jnp.array([4.0, -1.0, 1.5, -1.0])}
    tx = sgd(prune.constant(0.5))
    _, state = stepper(tx)(params, tx.init(params), grads)
    assert state.scores["w"].tolist() == (-sign * np.array([4.0, 1.0, 3.0, 2.0])).tolist()
    best = [False, True, False, True]
    assert state.masks["w"].tolist() == (best if sign > 0 else [not keep for keep in best])


def test_pruned_weights_keep_their_value_and_come_back() -> None:
    params, tx = {"w": jnp.array([1.0, -2.0])}, sgd(prune.constant(0.5))
    step, state = stepper(tx), tx.init(params)
    params, state = step(params, state, {"w": jnp.array([0.5, 0.0])})
    assert params["w"].tolist() == [0.5, -2.0]
    assert state.masks["w"].tolist() == [False, True]
    used = prune.effective_params(params, state)["w"]
    assert used.tolist() == [0.0, -2.0]
    # The pruned weight learns nothing from its gradient, its score does: -0.5 + 4 * 0.5 = 1.5.
    params, state = step(params, state, {"w": jnp.array([-4.0, 0.0])})
    assert params["w"].tolist() == [0.5, -2.0]
    assert state.scores["w"].tolist() == [1.5, 0.0]
    assert state.masks["w"].tolist() == [True, False]
    assert prune.effective_params(params, state)["w"].tolist() == [0.5, 0.0]


def test_what_is_pruned_is_positive_zero_in_the_forward_pass() -> None:
    tx = prune.movement(optax.adam(1e-2), optax.adam(3e-2), GRADUAL, RULES)
    params, state, _ = train(tx, initial())
    used = prune.effective_params(params, state)
    for layer in "ab":
        pruned = ~np.asarray(state.masks[layer]["kernel"])
        raw = np.asarray(used[layer]["kernel"])
        assert not raw[pruned].view(np.int32).any()
        assert np.asarray(params[layer]["kernel"])[pruned].all()  # the weights themselves are dense
        np.testing.assert_array_equal(raw[~pruned], np.asarray(params[layer]["kernel"])[~pruned])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", [optax.adamw(1e-2), optax.sgd(0.05, momentum=0.9)])
def test_no_sparsity_is_the_bare_optimizer_bit_for_bit(dtype: str, optimizer: Any) -> None:
    finals = []
    schedule = prune.cubic(0.0, 5, 42)
    for tx in (optimizer, prune.movement(optimizer, optax.adam(1e-2), schedule, RULES)):

        def step(carry: Any, batch: Any, tx: Any = tx) -> Any:
            params, state = carry
            grads = jax.grad(loss)(prune.effective_params(params, state), *batch)
            updates, state = tx.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), None

        params = initial(dtype)
        (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), batches())
        finals.append(jax.tree.map(lambda x: np.asarray(x).tobytes(), params))
    assert finals[0] == finals[1]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("scope", "pattern", "sparsity"),
    [
        ("tensor", None, 0.7),
        ("global", None, 0.7),
        ("tensor", prune.Blocks(1, 2), 0.75),
        ("tensor", prune.NofM(1, 4), 0.75),
    ],
)
def test_ends_at_the_sparsity_asked_for_though_masks_go_on_changing(
    dtype: str, scope: Any, pattern: Any, sparsity: float
) -> None:
    schedule = prune.cubic(sparsity, begin=2, end=20, interval=5)
    tx = prune.movement(
        optax.adamw(1e-2), optax.adam(0.1), schedule, RULES, scope=scope, pattern=pattern
    )
    params, state, masks = train(tx, initial(dtype))
    prune.check(prune.audit(params, state), schedule, RULES, scope=scope, pattern=pattern)
    stacked = {name: np.asarray(mask)[20:] for name, mask in masks.items()}
    kept = {name: mask.sum((1, 2)) for name, mask in stacked.items()}
    if scope == "global":
        assert set(sum(kept.values()).tolist()) == {round((1 - sparsity) * 144)}  # type: ignore[attr-defined]
    else:
        unit = 2 if isinstance(pattern, prune.Blocks) else 1
        want = {n: round((1 - sparsity) * m[0].size / unit) * unit for n, m in stacked.items()}
        assert {name: set(k.tolist()) for name, k in kept.items()} == {
            name: {n} for name, n in want.items()
        }
    assert any(np.any(mask[1:] != mask[:-1]) for mask in stacked.values())
    assert params["a"]["kernel"].dtype == jnp.dtype(dtype)
    assert state.scores["a"]["kernel"].dtype == jnp.float32


def test_masks_rest_between_the_steps_of_the_schedule() -> None:
    schedule = prune.cubic(0.7, begin=5, end=42, interval=10)
    tx = prune.movement(optax.adamw(1e-2), optax.adam(3e-2), schedule, RULES)
    _, _, masks = train(tx, initial())
    stacked = np.asarray(masks["a/kernel"])
    changed = 1 + np.flatnonzero(np.any(stacked[1:] != stacked[:-1], (1, 2)))
    assert {15, 25, 35, 42} <= set(changed.tolist()) <= {5, 15, 25, 35, 42, 45}


@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_given_masks_stay_pruned_for_good(scope: Any) -> None:
    given = half_masks()
    schedule = prune.cubic(0.75, begin=5, end=42)  # asks for fewer zeros than given at first
    tx = prune.movement(
        optax.adam(1e-2), optax.adam(0.1), schedule, RULES, scope=scope, masks=given
    )
    first = prune.masks_of(tx.init(initial()))
    params, state, masks = train(tx, initial())
    for name in KERNELS:
        np.testing.assert_array_equal(first[name], given[name])
        np.testing.assert_array_equal(masks[name][10], given[name])
        assert not np.any(np.asarray(masks[name]) & ~given[name])
    prune.check(prune.audit(params, state), schedule, RULES, scope=scope)


def half_masks() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {"a/kernel": rng.random((8, 12)) < 0.5, "b/kernel": rng.random((12, 4)) < 0.5}


def test_given_masks_stay_pruned_though_a_traced_schedule_ends_with_fewer_zeros() -> None:
    # A traced sparsity cannot be refused; what is pruned must stay so all the same.
    @jax.jit
    def run(final: jax.Array) -> Any:
        schedule = prune.cubic(final, begin=5, end=42)
        tx = prune.movement(optax.adam(1e-2), optax.adam(0.1), schedule, RULES, masks=half_masks())
        return train(tx, initial())[2]

    for name, masks in run(jnp.float32(0.25)).items():
        assert not np.any(np.asarray(masks) & ~half_masks()[name])
        np.testing.assert_array_equal(masks[-1], half_masks()[name])


@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_given_masks_sparser_than_the_schedule_are_refused(scope: Any) -> None:
    tx = prune.movement(
        optax.adam(1e-2),
        optax.adam(1e-2),
        prune.constant(0.25),
        RULES,
        scope=scope,
        masks=half_masks(),
    )
    with pytest.raises(ValueError, match="all targets" if scope == "global" else "a/kernel"):
        tx.init(initial())


def test_given_masks_must_consist_of_whole_blocks() -> None:
    given = {name: np.ones(np.shape(initial()[name[0]]["kernel"]), bool) for name in KERNELS}
    given["b/kernel"][0, 0] = False
    tx = prune.movement(
        optax.adam(1e-2),
        optax.adam(1e-2),
        prune.constant(0.5),
        RULES,
        pattern=prune.Blocks(2, 4),
        masks=given,
    )
    with pytest.raises(ValueError, match="b/kernel .*whole blocks of 2x4"):
        tx.init(initial())


@pytest.mark.parametrize("pattern", [None, prune.Blocks(2, 4), prune.NofM(2, 4)])
@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_init_with_given_masks_compiles(array: Any, pattern: Any) -> None:
    given = {name: array(np.ones((8, 4), bool)) for name in KERNELS}
    params = {layer: {"kernel": jnp.ones((8, 4)), "bias": jnp.ones(4)} for layer in "ab"}
    tx = prune.movement(
        optax.adam(1e-2),
        optax.adam(1e-2),
        prune.constant(0.5),
        RULES,
        pattern=pattern,
        masks=given,
    )
    want = tx.init(params)
    jax.tree.map(np.testing.assert_array_equal, jax.jit(tx.init)(params), want)
    assert jax.tree.structure(jax.eval_shape(tx.init, params)) == jax.tree.structure(want)


def test_given_blocks_have_scores_of_minus_infinity() -> None:
    given = {"w": np.repeat(np.array([[True, True], [False, False]]), 2, axis=0)}
    tx = prune.movement(
        optax.sgd(1.0),
        optax.adam(1.0),
        prune.constant(0.5),
        [("w", True)],
        pattern=prune.Blocks(2, 1),
        masks=given,
    )
    params = {"w": jnp.ones((4, 2))}
    state, step = tx.init(params), stepper(tx)
    for _ in range(3):
        params, state = step(params, state, {"w": jnp.full((4, 2), -1.0)})
    scores = np.asarray(state.scores["w"])
    assert np.isfinite(scores[0]).all() and (scores[1] == -np.inf).all()
    np.testing.assert_array_equal(state.masks["w"], given["w"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a/kernel": np.ones((8, 12), bool)}, "there is no mask for b/kernel"),
        ({"a/kernel": np.ones((8, 12), bool), "b/kernel": np.ones((4, 12), bool)}, "has the shape"),
        ({"c": np.ones(1, bool)}, "a mask for 'c'"),
    ],
)
def test_given_masks_must_fit(given: Any, message: str) -> None:
    tx = prune.movement(optax.adam(1e-2), optax.adam(1e-2), prune.constant(0.5), RULES, masks=given)
    with pytest.raises(ValueError, match=message):
        tx.init(initial())


def test_scores_have_their_own_learning_rate() -> None:
    params, grads = {"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([0.5, 0.25])}
    for rate in (1.0, 2.0):
        tx = prune.movement(
            optax.sgd(0.125), optax.sgd(rate), prune.one_shot(0.5, 9), [("w", True)]
        )
        updates, state = tx.update(grads, tx.init(params), params)
        assert updates["w"].tolist() == [-0.0625, -0.03125]
        assert state.scores["w"].tolist() == [-0.5 * rate, -0.5 * rate]


def test_extra_arguments_reach_the_optimizer_of_the_weights() -> None:
    def update(updates: Any, state: Any, params: Any = None, *, value: Any, **_: Any) -> Any:
        return jax.tree.map(lambda u: value * u, updates), state

    wants_value = optax.GradientTransformationExtraArgs(optax.identity().init, update)
    tx = prune.movement(wants_value, optax.sgd(1.0), prune.one_shot(0.5, 9), [("w", True)])
    params = {"w": jnp.ones(2)}
    updates, _ = tx.update({"w": jnp.ones(2)}, tx.init(params), params, value=3.0)
    assert updates["w"].tolist() == [3.0, 3.0]


def test_update_needs_params() -> None:
    tx, params = sgd(prune.constant(0.5)), {"w": jnp.ones(4)}
    with pytest.raises(ValueError, match="movement needs params"):
        tx.update(params, tx.init(params))


def test_a_nan_is_refused_where_values_are_known() -> None:
    tx = prune.movement(optax.sgd(1.0), optax.sgd(1.0), prune.constant(0.5), RULES)
    params = initial()
    grads = jax.tree.map(jnp.zeros_like, params)
    grads["b"]["kernel"] = grads["b"]["kernel"].at[1, 2].set(jnp.nan)
    with pytest.raises(ValueError, match="b/kernel"):
        tx.update(grads, tx.init(params), params)


@pytest.mark.parametrize("hidden", [False, True])
def test_a_nan_in_a_compiled_step_is_found_by_the_audit(hidden: bool) -> None:
    params, tx = {"w": jnp.array([1.0, 2.0, 3.0, 4.0])}, sgd(prune.constant(0.5))
    step, state = stepper(tx), tx.init(params)
    params, state = step(params, state, {"w": jnp.array([1.0, 1.0, 0.0, 0.0])})
    assert state.masks["w"].tolist() == [False, False, True, True]
    prune.audit(params, state)
    grads = {"w": jnp.zeros(4).at[0 if hidden else 2].set(jnp.nan)}
    params, state = step(params, state, grads)
    # Where the mask hides the gradient only the score is NaN, else the weight is as well.
    assert bool(jnp.isnan(params["w"]).any()) == (not hidden)
    message = (
        r"NaN or infinity in the scores of w \(1\)" if hidden else r"NaN or infinity in w \(1\)"
    )
    with pytest.raises(ValueError, match=message):
        prune.audit(params, state)


def test_vmap_is_separate_runs_and_other_numbers_need_no_other_program() -> None:
    traces: list[None] = []

    def run(final: Any, rate: Any, begin: Any, end: Any, interval: Any) -> Any:
        traces.append(None)
        tx = prune.movement(
            optax.adamw(1e-2),
            optax.adam(rate),
            prune.cubic(final, begin, end, interval),
            RULES,
        )
        params, state, masks = train(tx, initial())
        return params, state.scores, masks

    finals, rates = np.array([0.5, 0.9], np.float32), np.array([1e-2, 0.1], np.float32)
    together = jax.jit(jax.vmap(run, (0, 0, None, None, None)))
    got = {numbers: together(finals, rates, *numbers) for numbers in ((5, 42, 4), (3, 30, 7))}
    assert len(traces) == 1
    for (numbers, (params, _, masks)), i in zip(got.items(), (0, 1), strict=True):
        alone = jax.jit(run, static_argnums=(0, 1, 2, 3, 4))
        own_params, _, own_masks = alone((0.5, 0.9)[i], (1e-2, 0.1)[i], *numbers)
        for name in KERNELS:
            np.testing.assert_array_equal(masks[name][i], own_masks[name])
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, atol=1e-6), params, own_params
        )


@pytest.mark.parametrize("begin", [0, 1])
def test_a_traced_schedule_compiles_where_all_else_is_known(begin: int) -> None:
    params = {"w": jnp.array([1.0, 2.0, 3.0, 4.0])}
    state = sgd(prune.constant(0.5)).init(params)

    @jax.jit
    def kept(begin: jax.Array) -> jax.Array:
        tx = sgd(prune.cubic(0.5, begin, begin))
        return jnp.sum(tx.update(params, state, params)[1].masks["w"])

    assert int(kept(jnp.int32(begin))) == (4 if begin else 2)


def test_the_learning_rate_of_adam_does_not_change_the_order_of_scores() -> None:
    """Twice the rate, twice the scores, the same masks: exactly, for two is a power of two."""
    runs = []
    for rate in (1e-2, 2e-2):
        scores = optax.adam(rate)
        schedule = prune.cubic(0.9, begin=5, end=40)
        tx = prune.movement(optax.adamw(1e-2), scores, schedule, RULES)
        runs.append(train(tx, initial()))
    (_, one, masks), (_, two, same) = runs
    for name in KERNELS:
        np.testing.assert_array_equal(masks[name], same[name])
        np.testing.assert_array_equal(2 * prune.scores_of(one)[name], prune.scores_of(two)[name])
