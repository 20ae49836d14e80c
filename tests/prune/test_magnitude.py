"""Magnitude pruning against a plain numpy loop, and the promises of its docstring."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsejax import prune
from sparsejax.prune.targets import by_path

BEGIN, END, INTERVAL, STEPS = 5, 42, 10, 50
DUE = (5, 15, 25, 35, 42)  # 42 is not on the grid
SCHEDULE = prune.cubic(0.9, BEGIN, END, INTERVAL)
QUERY, OUTPUT = "encoder/layer_0/attention/query/kernel", "encoder/layer_0/mlp/output/kernel"
SHAPES = {
    "encoder": {
        "layer_0": {
            "attention": {
                "query": {"kernel": (12, 16), "bias": (16,)},
                "norm": {"scale": (16,), "bias": (16,)},
            },
            "mlp": {"output": {"kernel": (16, 4, 8), "bias": (8,)}},
        }
    },
    "classifier": {"kernel": (16, 7), "bias": (7,)},
}
RATE = 0.125  # a power of two: whether multiply and add are fused makes no difference


def is_shape(x: Any) -> bool:
    return isinstance(x, tuple) and all(isinstance(size, int) for size in x)


def normal(seed: int, dtype: Any = jnp.float32, steps: int | None = None) -> Any:
    """Random numbers in the shape of the parameters, or for each of some steps."""
    rng, more = np.random.default_rng(seed), () if steps is None else (steps,)
    return jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(size=more + shape), dtype), SHAPES, is_leaf=is_shape
    )


def stepper(tx: optax.GradientTransformation) -> Callable[..., Any]:
    @jax.jit
    def step(params: Any, state: Any, grads: Any) -> Any:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


def train(tx: optax.GradientTransformation, params: Any, grads: Any) -> tuple[Any, Any]:
    """Parameters and masks, by path, after every one of the steps."""

    def step(carry: Any, grad: Any) -> Any:
        params, state = carry
        updates, state = tx.update(grad, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), (by_path(params), prune.masks_of(state))

    return jax.lax.scan(step, (params, tx.init(params)), grads)[1]


def host_train(*args: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    return jax.tree.map(np.asarray, jax.jit(functools.partial(train, args[0]))(*args[1:]))


# The reference: SGD, and pruning as one would write it in a loop.


def sparsity_at(t: int, final: float) -> float:
    return float(final - final * (1 - (t - BEGIN) / (END - BEGIN)) ** 3)


def mean_magnitudes(weights: np.ndarray, pattern: Any) -> np.ndarray:
    """For each weight the mean absolute value of its block."""
    means = np.abs(weights.astype(np.float64))
    if isinstance(pattern, prune.Blocks):
        rows, columns = pattern.rows or means.shape[-2], pattern.columns or means.shape[-1]
        for i in range(0, means.shape[-2], rows):
            for j in range(0, means.shape[-1], columns):
                block = means[..., i : i + rows, j : j + columns]
                block[...] = block.mean((-2, -1), keepdims=True)
    return means


def largest(scores: np.ndarray, kept: int) -> np.ndarray:
    mask = np.zeros(scores.size, bool)
    mask[np.argsort(-scores, axis=None, kind="stable")[:kept]] = True
    return mask.reshape(scores.shape)


def blocks_of(shape: tuple[int, ...], pattern: Any) -> np.ndarray:
    """The number of the block each weight is in."""
    if not isinstance(pattern, prune.Blocks):
        return np.arange(np.prod(shape)).reshape(shape)
    rows, columns = pattern.rows or shape[-2], pattern.columns or shape[-1]
    *before, i, j = np.indices(shape)
    down, across = shape[-2] // rows, shape[-1] // columns
    number = i // rows * across + j // columns
    for axis, index in enumerate(reversed(before)):
        number = number + index * down * across * int(np.prod(shape[:-2][len(before) - axis :]))
    return number


def numpy_masks(
    weights: dict[str, np.ndarray],
    kept: dict[str, np.ndarray],
    t: int,
    own: dict[str, tuple[float, Any]],
    scope: str,
) -> dict[str, np.ndarray]:
    scores, numbers = {}, {}
    for name, w in weights.items():
        numbers[name] = blocks_of(w.shape, own[name][1])
        means = np.where(kept[name], mean_magnitudes(w, own[name][1]), -1.0)
        _, first = np.unique(numbers[name].ravel(), return_index=True)
        scores[name] = means.ravel()[first]
    if scope == "global":
        final, _ = own[QUERY]
        everything = np.concatenate(list(scores.values()))
        mask = largest(everything, round((1 - sparsity_at(t, final)) * everything.size))
        parts = np.split(mask, np.cumsum([x.size for x in scores.values()])[:-1])
        return {n: part[numbers[n]] for n, part in zip(scores, parts, strict=True)}
    masks = {}
    for name, (final, pattern) in own.items():
        if isinstance(pattern, prune.NofM):
            lines = np.moveaxis(scores[name].reshape(weights[name].shape), pattern.axis, -1)
            n = max(round((1 - sparsity_at(t, final)) * pattern.m), pattern.n)
            groups = [largest(group, n) for group in lines.reshape(-1, pattern.m)]
            masks[name] = np.moveaxis(np.reshape(groups, lines.shape), -1, pattern.axis)
        else:
            n = round((1 - sparsity_at(t, final)) * scores[name].size)
            masks[name] = largest(scores[name], n)[numbers[name]]
    return masks


def numpy_train(params: Any, grads: Any, own: Any, scope: str) -> tuple[Any, Any]:
    params = {name: np.array(value) for name, value in by_path(params).items()}
    grads = {name: np.asarray(grad) for name, grad in by_path(grads).items()}
    kept = {name: np.ones(params[name].shape, bool) for name in own}
    all_params, all_masks = [], []
    for t in range(STEPS):
        for name in params:
            params[name] = params[name] - np.float32(RATE) * grads[name][t]
        if t in DUE:
            kept = numpy_masks({name: params[name] for name in own}, kept, t, own, scope)
        for name, mask in kept.items():
            params[name] = params[name] * mask
        all_params.append(dict(params))
        all_masks.append(kept)
    return all_params, all_masks


B24, ROWS = prune.Blocks(2, 4), prune.Blocks(1, None)
OWN = [(QUERY, 0.5), (OUTPUT, prune.Target(0.75, B24)), (".*", False)]
CASES = {
    # final, scope, pattern, rules, path -> (sparsity, pattern), weights kept in each or in all
    "tensor": (0.9, "tensor", None, None, None, [19, 51]),
    "global": (0.9, "global", None, None, None, [70]),
    "blocks": (0.9, "tensor", B24, None, None, [2 * 8, 6 * 8]),
    "global-blocks": (0.7, "global", B24, None, None, [26 * 8]),
    "rows": (0.6, "tensor", ROWS, None, None, [5 * 16, 26 * 8]),
    "2:4": (0.5, "tensor", prune.NofM(2, 4), None, None, [96, 256]),
    "1:8-of-outputs": (0.875, "tensor", prune.NofM(1, 8, axis=-1), None, None, [24, 64]),
    "own": (0.9, "tensor", None, OWN, {QUERY: (0.5, None), OUTPUT: (0.75, B24)}, [96, 16 * 8]),
}


@pytest.mark.parametrize("case", CASES)
def test_fifty_steps_of_sgd_are_those_of_a_numpy_loop(case: str) -> None:
    final, scope, pattern, rules, own, by_hand = CASES[case]
    own = own or dict.fromkeys((QUERY, OUTPUT), (final, pattern))
    schedule = prune.cubic(final, BEGIN, END, INTERVAL)
    pruning = prune.magnitude(
        schedule, rules or prune.ENCODER_KERNELS, scope=scope, pattern=pattern
    )
    params, grads = normal(0), normal(1, steps=STEPS)
    got_params, got_masks = host_train(optax.chain(optax.sgd(RATE), pruning), params, grads)
    want_params, want_masks = numpy_train(params, grads, own, scope)
    assert got_masks.keys() == own.keys()
    for t in range(STEPS):
        for name, mask in got_masks.items():
            np.testing.assert_array_equal(mask[t], want_masks[t][name], err_msg=f"{name} {t}")
        for name, value in got_params.items():
            np.testing.assert_array_equal(value[t], want_params[t][name])
    for name, mask in got_masks.items():
        assert not np.any(got_params[name][~mask])  # exactly zero, after every step
        assert not np.any(mask[1:] & ~mask[:-1])  # none returns
        assert mask[:BEGIN].all()
    finally_kept = [got_masks[name][END:].reshape(STEPS - END, -1).sum(1) for name in own]
    if scope == "global":
        finally_kept = [sum(finally_kept)]
    assert [set(counts.tolist()) for counts in finally_kept] == [{n} for n in by_hand]


@pytest.mark.parametrize(("n", "m", "axis"), [(2, 4, -2), (1, 8, -1), (3, 4, 0)])
def test_n_of_m_groups_never_fall_below_n_and_end_at_n(n: int, m: int, axis: int) -> None:
    schedule = prune.cubic(1 - n / m, BEGIN, END)
    pruning = prune.magnitude(schedule, [("w", True)], pattern=prune.NofM(n, m, axis))
    rng = np.random.default_rng(0)
    params = {"w": jnp.asarray(rng.normal(size=(16, 8)), jnp.float32)}
    grads = {"w": jnp.asarray(rng.normal(size=(STEPS, 16, 8)), jnp.float32)}
    _, masks = host_train(optax.chain(optax.sgd(RATE), pruning), params, grads)
    lines = np.moveaxis(masks["w"], axis % 2 + 1, -1)
    counts = lines.reshape(STEPS, -1, m).sum(-1)
    assert np.all(counts[:BEGIN] == m)
    assert np.all(counts >= n)
    assert np.all(counts[END:] == n)
    assert np.all(np.diff(counts, axis=0) <= 0)
    assert {*range(n, m + 1)} == {*counts.ravel().tolist()}  # one by one


@pytest.mark.parametrize(("dtype", "end"), [("float32", 42), ("bfloat16", 41), ("float32", 35)])
def test_ends_at_the_sparsity_asked_for(dtype: str, end: int) -> None:
    schedule = prune.cubic(0.9, BEGIN, end, INTERVAL)
    tx = optax.chain(optax.adamw(0.1), prune.magnitude(schedule, prune.ENCODER_KERNELS))
    params, masks = host_train(tx, normal(0, dtype), normal(1, dtype, STEPS))
    assert masks.keys() == {QUERY, OUTPUT}
    for name, mask in masks.items():
        assert params[name].dtype == jnp.dtype(dtype)
        assert not np.any(params[name][~mask])
        assert not np.any(mask[1:] & ~mask[:-1])
        assert mask[:BEGIN].all()
        kept = mask.reshape(STEPS, -1).sum(1)
        assert set(kept[end:].tolist()) == {round((1 - 0.9) * mask[0].size)}
        assert len(set(kept.tolist())) > 3
    assert all(params[name].all() for name in params.keys() - masks.keys())


@pytest.mark.parametrize(
    ("dtype", "optimizer"),
    [
        ("float32", optax.adamw(1e-2)),
        ("bfloat16", optax.adamw(1e-2)),
        ("float32", optax.sgd(0.1, momentum=0.9)),
        ("bfloat16", optax.lion(0.1)),
        ("float32", optax.lamb(0.1)),
    ],
)
def test_no_sparsity_is_the_bare_optimizer_bit_for_bit(dtype: str, optimizer: Any) -> None:
    rules = [(QUERY, 0.0), (OUTPUT, prune.Target(0.0)), (".*", False)]
    pruning = prune.magnitude(prune.cubic(0.0, 0, 10), rules)
    bare = optax.chain(optax.clip_by_global_norm(1.0), optimizer)
    finals = []
    for tx in (bare, optax.chain(bare, pruning)):
        params, step = normal(0, dtype), stepper(tx)
        state = tx.init(params)
        for seed in range(1, 16):
            params, state = step(params, state, normal(seed, dtype))
        finals.append(jax.tree.map(lambda x: np.asarray(x).tobytes(), params))
    assert finals[0] == finals[1]
    assert state[-1].step == 15
    assert all(mask.all() for mask in prune.masks_of(state).values())


def test_a_rule_of_no_sparsity_keeps_its_leaf_dense() -> None:
    rules = [(QUERY, 0.0), (OUTPUT, True), (".*", False)]
    tx = optax.chain(optax.sgd(RATE), prune.magnitude(prune.one_shot(0.5, 1), rules))
    _, masks = host_train(tx, normal(0), normal(1, steps=3))
    assert masks[QUERY].all()
    assert masks[OUTPUT][-1].sum() == 256


def test_updates_pass_untouched_until_the_first_pruning() -> None:
    tx = prune.magnitude(prune.cubic(0.9, 1, 9), prune.ENCODER_KERNELS)
    params, updates, update = normal(0), normal(1), jax.jit(tx.update)
    got, state = update(updates, tx.init(params), params)
    jax.tree.map(np.testing.assert_array_equal, got, updates)
    got, _ = update(updates, state, params)  # at step 1 the sparsity is still 0
    jax.tree.map(np.testing.assert_array_equal, got, updates)


def test_masks_change_on_due_steps_only_and_never_after_the_end() -> None:
    tx = optax.chain(optax.sgd(RATE), prune.magnitude(SCHEDULE, prune.ENCODER_KERNELS))
    _, masks = host_train(tx, normal(0), normal(1, steps=70))
    for mask in masks.values():
        changed = np.any(mask[1:] != mask[:-1], axis=tuple(range(1, mask.ndim)))
        # At step 5 the sparsity is still 0; 45, 55, 65 are on the grid, but after the end.
        assert (np.flatnonzero(changed) + 1).tolist() == [15, 25, 35, 42]


def test_masks_rest_when_nothing_changes() -> None:
    schedule = prune.cubic(0.6, begin=0, end=10, initial=0.6)
    tx = prune.magnitude(schedule, prune.ENCODER_KERNELS, scope="global")
    still = jax.tree.map(jnp.zeros_like, normal(0, steps=6))
    params, masks = host_train(tx, normal(0), still)
    for each in (*params.values(), *masks.values()):
        np.testing.assert_array_equal(each, np.broadcast_to(each[:1], each.shape))


def test_kept_zeros_do_not_swap_places_with_pruned_ones() -> None:
    tx = prune.magnitude(prune.cubic(0.8, 0, 9), [("w", True)])
    params, step = {"w": jnp.arange(20.0)}, stepper(tx)
    state, before = tx.init(params), np.ones(20, bool)
    for t in range(10):
        # From step 5 on every weight is zero, so that all are tied.
        gone = -params["w"] if t == 5 else jnp.zeros(20)
        params, state = step(params, state, {"w": gone})
        mask = np.asarray(prune.masks_of(state)["w"])
        assert mask.sum() == round((1 - 0.8 * (1 - (1 - t / 9) ** 3)) * 20)
        assert not np.any(mask & ~before)
        before = mask


def test_a_resurrected_gradient_cannot_wake_a_weight() -> None:
    tx = optax.chain(optax.sgd(1.0), prune.magnitude(prune.one_shot(0.5, 0), [("w", True)]))
    params, step = {"w": jnp.array([1.0, -4.0, 3.0, -2.0])}, stepper(tx)
    params, state = step(params, tx.init(params), {"w": jnp.zeros(4)})
    assert params["w"].tolist() == [0.0, -4.0, 3.0, 0.0]
    params, state = step(params, state, {"w": jnp.full(4, -100.0)})
    assert params["w"].tolist() == [0.0, 96.0, 103.0, 0.0]


def test_blocks_of_several_leaves_by_hand() -> None:
    params = {"a": jnp.array([[3.0, -3.0, 0.0, 1.0]]), "b": jnp.array([[2.0, 2.5], [1.0, -1.5]])}
    tx = prune.magnitude(
        prune.one_shot(0.5, 0), [(".*", True)], scope="global", pattern=prune.Blocks(1, 2)
    )
    params, _ = stepper(tx)(params, tx.init(params), jax.tree.map(jnp.zeros_like, params))
    assert params["a"].tolist() == [[3.0, -3.0, 0.0, 0.0]]
    assert params["b"].tolist() == [[2.0, 2.5], [0.0, 0.0]]


def test_one_compilation_serves_the_whole_run() -> None:
    tx = prune.magnitude(SCHEDULE, prune.ENCODER_KERNELS)
    traces: list[None] = []

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, grads: Any) -> Any:
        traces.append(None)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params = normal(0)
    state = tx.init(params)
    for seed in range(50):
        params, state = step(params, state, normal(seed))
    assert len(traces) == 1


def descent(schedule: prune.Schedule, scope: Any = "tensor") -> Any:
    """A whole training loop whose arithmetic is exact however it is batched."""
    tx = optax.chain(optax.sgd(RATE), prune.magnitude(schedule, prune.ENCODER_KERNELS, scope=scope))
    start, goals = normal(0), normal(1, steps=STEPS)

    def step(carry: Any, goal: Any) -> Any:
        params, state = carry
        grads = jax.tree.map(jnp.subtract, params, goal)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), (by_path(params), prune.masks_of(state))

    return jax.lax.scan(step, (start, tx.init(start)), goals)[1]


@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_vmap_over_sparsities_is_a_run_for_each_of_them(scope: str) -> None:
    def run(final: Any) -> Any:
        return descent(prune.cubic(final, BEGIN, END, INTERVAL), scope)

    finals = [0.5, 0.7, 0.9]
    together = jax.jit(jax.vmap(run))(jnp.array(finals, jnp.float32))
    for i, final in enumerate(finals):
        alone = jax.jit(functools.partial(run, final))()  # by Python's 0.7, not float32's
        jax.tree.map(lambda a, b, i=i: np.testing.assert_array_equal(a[i], b), together, alone)
    sizes = {name: mask[0, -1].size for name, mask in together[1].items()}
    kept = sum(mask[:, -1].reshape(3, -1).sum(1) for mask in together[1].values())
    if scope == "global":
        assert kept.tolist() == [round((1 - f) * sum(sizes.values())) for f in finals]
    else:
        assert kept.tolist() == [sum(round((1 - f) * n) for n in sizes.values()) for f in finals]


def test_a_traced_schedule_is_compiled_once_and_prunes_as_python_numbers_do() -> None:
    traces: list[None] = []

    @jax.jit
    def run(schedule: prune.Schedule) -> Any:
        traces.append(None)
        return descent(schedule)

    for numbers in [(0.9, 5, 42, 10, 0.0), (0.6, 0, 7, 3, 0.25), (0.35, 20, 20, 1, 0.0)]:
        traced = run(prune.Schedule(*numbers))
        known = jax.jit(functools.partial(descent, prune.Schedule(*numbers)))()
        jax.tree.map(np.testing.assert_array_equal, traced, known)
        for mask in traced[1].values():
            assert mask[-1].sum() == round((1 - numbers[0]) * mask[-1].size)
    assert len(traces) == 1


def test_vmap_over_parameters_is_separate_runs() -> None:
    tx = optax.chain(optax.sgd(RATE), prune.magnitude(prune.cubic(0.7, 1, 4, 2), [("w", True)]))
    rng = np.random.default_rng(0)
    starts = {"w": jnp.asarray(rng.normal(size=(3, 6, 7)), jnp.float32)}
    grads = {"w": jnp.asarray(rng.normal(size=(6, 6, 7)), jnp.float32)}
    together = jax.jit(jax.vmap(functools.partial(train, tx), (0, None)))(starts, grads)
    for i in range(3):
        alone = jax.jit(functools.partial(train, tx))({"w": starts["w"][i]}, grads)
        jax.tree.map(lambda a, b, i=i: np.testing.assert_array_equal(a[i], b), together, alone)


def test_vmap_over_the_begin_outside_of_jit() -> None:
    def first(begin: jax.Array) -> jax.Array:
        tx = prune.magnitude(prune.one_shot(0.5, begin), [("w", True)])
        params = {"w": jnp.arange(1.0, 5.0)}
        updates, _ = tx.update({"w": jnp.zeros(4)}, tx.init(params), params)
        return updates["w"]

    assert jax.vmap(first)(jnp.array([0, 1])).tolist() == [[-1, -2, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("options", "rules", "message"),
    [
        ({"pattern": prune.NofM(2, 4)}, [(".*", True)], "a: 2:4 is a sparsity of 0.5, not 0.9"),
        (
            {},
            [("a", prune.Target(0.5, prune.NofM(1, 4))), ("b", True)],
            "a: 1:4 is a sparsity of 0.75, not 0.5",
        ),
        (
            {"scope": "global"},
            [("a", True), ("b", 0.5)],
            "b: a sparsity of its own does not go with scope='global'",
        ),
        (
            {"scope": "global"},
            [("a", True), ("b", prune.Target(0.5, prune.NofM(2, 4)))],
            "b: 2:4 is kept within a tensor, not by scope='global'",
        ),
        (
            {"scope": "global", "pattern": prune.Blocks(1, None)},
            [(".*", True)],
            "those of a have 8 weights, those of b 6",
        ),
        (
            {"scope": "global"},
            [("a", True), ("b", prune.Target(pattern=prune.Blocks(2, 2)))],
            "those of a have 1 weights, those of b 4",
        ),
        ({"pattern": prune.Blocks(1, 4)}, [(".*", True)], "b: blocks of 1x4 do not divide"),
        ({}, [("a", True)], "no rule matches the parameter 'b'"),
        ({}, [("a", True), ("b", True), ("c", True)], "the rule 'c' is not the first"),
    ],
)
def test_errors_at_init(options: dict[str, Any], rules: prune.Rules, message: str) -> None:
    tx = prune.magnitude(prune.cubic(0.9, 0, 9), rules, **options)
    with pytest.raises(ValueError, match=message) as error:
        tx.init({"a": jnp.ones((4, 8)), "b": jnp.ones((4, 6))})
    assert "\n" not in str(error.value)


def test_an_unknown_scope() -> None:
    with pytest.raises(ValueError, match="scope must be 'tensor' or 'global', got 'layer'"):
        prune.magnitude(SCHEDULE, prune.ENCODER_KERNELS, scope="layer")  # type: ignore[arg-type]
