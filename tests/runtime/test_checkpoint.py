"""Checkpoints of arrays that go on changing: whole, few, and the best among them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsejax.errors import Stopped, UserError
from sparsejax.runtime.checkpoint import About, Checkpoints


def about(step: int, score: float | None = None) -> About:
    return About(step, "config", "data", score)


@jax.jit
def state_of(step: int) -> Any:
    key = jax.random.fold_in(jax.random.key(0), step)
    return {"kernel": jax.random.normal(key, (300, 1000)), "mask": jnp.arange(7) < step}


def saved(directory: Path, scores: dict[int, float | None], keep: int) -> Checkpoints:
    checkpoints = Checkpoints(directory, keep)
    for step, score in scores.items():
        checkpoints.save(state_of(step), about(step, score))
    checkpoints.wait()
    return checkpoints


@pytest.mark.parametrize(
    ("scores", "keep", "left"),
    [
        ({1: None, 2: None, 3: None}, 2, [2, 3]),
        ({1: None, 2: None, 3: None}, 1, [3]),
        ({1: None, 2: None, 3: None}, 0, [3]),
        ({1: 0.5, 2: 0.9, 3: 0.7, 4: 0.8}, 1, [2, 4]),
        ({1: 0.9, 2: 0.9, 3: 0.7, 4: 0.8}, 2, [1, 3, 4]),  # the first of equal ones
        ({9: None, 10: None, 11: None}, 2, [10, 11]),  # by number, not by name
    ],
)
def test_which_are_kept(
    tmp_path: Path, scores: dict[int, float | None], keep: int, left: list[int]
) -> None:
    checkpoints = saved(tmp_path / "c", scores, keep)
    assert checkpoints.steps() == left
    assert sorted(int(path.name) for path in (tmp_path / "c").iterdir()) == left
    # Another process knows the same.
    assert Checkpoints(tmp_path / "c", keep).best() == checkpoints.best()
    known = {step: score for step, score in scores.items() if score is not None}
    assert checkpoints.best() == (max(known, key=lambda s: (known[s], -s)) if known else None)


def test_a_state_of_another_shape_is_refused(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path / "c", {1: None}, 1)
    state = state_of(0) | {"kernel": jnp.zeros((300, 999))}
    with pytest.raises(
        UserError, match=r"does not fit this run \(.*\(300, 1000\), not \(300, 999\)"
    ):
        checkpoints.replace(state, 1)


def test_what_is_not_of_this_run_is_refused_by_name(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path / "c", {1: None}, 1)
    for name in ("config", "data", "model"):
        other = dataclasses.replace(about(0), **{name: "another"})
        with pytest.raises(UserError, match=f"of a run with another {name}"):
            checkpoints.newest(other, print)


def test_the_state_is_that_of_its_step_though_the_buffers_are_taken_over(tmp_path: Path) -> None:
    """Training goes on, in the very same memory, while a checkpoint is written."""

    @jax.jit
    def add(x: jax.Array) -> jax.Array:
        return x + 1

    step = jax.jit(add, donate_argnums=0)
    checkpoints = Checkpoints(tmp_path / "c", 9)
    start = np.random.default_rng(0).normal(size=(1000, 2000)).astype(np.float32)
    state = jnp.asarray(start)
    for i in range(1, 6):
        state = step(state)
        checkpoints.save({"x": state}, about(i))
        for _ in range(20):
            state = step(state)
    checkpoints.wait()
    wanted = start
    for i in range(1, 6):
        wanted = wanted + np.float32(1)
        found = checkpoints.replace({"x": jnp.zeros_like(state)}, i)["x"]
        np.testing.assert_array_equal(found, wanted)
        for _ in range(20):
            wanted = wanted + np.float32(1)


def test_half_written_ones_are_removed_and_written_again(tmp_path: Path) -> None:
    saved(tmp_path / "c", {1: None, 2: None}, 2)
    (tmp_path / "c/2").rename(tmp_path / "c/.2")  # as if killed before the last step
    checkpoints = Checkpoints(tmp_path / "c", 2)
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["1"]
    checkpoints.save(state_of(2), about(2))
    checkpoints.wait()
    assert checkpoints.newest(about(0), pytest.fail) == 2


def test_a_damaged_one_is_replaced(tmp_path: Path) -> None:
    saved(tmp_path / "c", {1: None, 2: None}, 2)
    (tmp_path / "c/2/about.json").write_text("{}")
    checkpoints = Checkpoints(tmp_path / "c", 2)
    said: list[str] = []
    assert checkpoints.newest(about(0), said.append) == 1 and len(said) == 1
    checkpoints.save(state_of(2), about(2))
    checkpoints.wait()
    assert checkpoints.newest(about(0), pytest.fail) == 2
    loaded = checkpoints.replace(state_of(0), 2)
    jax.tree.map(np.testing.assert_array_equal, loaded, state_of(2))


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_one_does_not_push_out_a_whole_one(tmp_path: Path, keep: int) -> None:
    saved(tmp_path / "c", {1: None, 5: None}, 2)
    (tmp_path / "c/5/about.json").write_text("{}")
    checkpoints = Checkpoints(tmp_path / "c", keep)
    assert checkpoints.newest(about(0), lambda _: None) == 1
    checkpoints.save(state_of(3), about(3))
    checkpoints.wait()
    assert checkpoints.newest(about(0), lambda _: None) == 3


def test_what_others_put_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c/.nfs0001").touch()
    checkpoints = saved(tmp_path / "c", {1: None}, 2)
    assert checkpoints.steps() == [1] and (tmp_path / "c/.nfs0001").exists()
    checkpoints.clear()
    assert [path.name for path in (tmp_path / "c").iterdir()] == [".nfs0001"]


def test_a_damaged_score_is_none(tmp_path: Path) -> None:
    saved(tmp_path / "c", {1: 0.5, 2: 0.6}, 2)
    path = tmp_path / "c/1/about.json"
    path.write_text(path.read_text().replace("0.5", "0.9"))
    assert Checkpoints(tmp_path / "c", 2).best() == 2


def test_another_model_is_refused_in_one_line(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path / "c", {1: None}, 2)
    with pytest.raises(UserError, match="does not fit this run") as caught:
        checkpoints.replace({"other": jnp.zeros(3)}, 1)
    assert "\n" not in str(caught.value)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "run"
    path.mkdir()
    path.chmod(0o500)
    try:
        (path / "probe").touch()
    except OSError:
        yield path
    else:
        pytest.skip("this user may write into read-only directories")
    finally:
        path.chmod(0o700)


def test_a_directory_that_cannot_be_written(read_only: Path) -> None:
    with pytest.raises(UserError, match="checkpoints: cannot be written: Permission denied"):
        Checkpoints(read_only / "checkpoints", 2)


def test_a_directory_that_vanishes(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path / "c", {1: None}, 2)
    (tmp_path / "c").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError) as caught:
        checkpoints.save(state_of(2), about(2))
        checkpoints.wait()
    assert "\n" not in str(caught.value) and "the checkpoint of step 2 cannot be written" in str(
        caught.value
    )


def test_what_is_under_way_is_waited_for(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "c", 2) as checkpoints:
        checkpoints.save(state_of(1), about(1))
    assert (tmp_path / "c" / "1" / "about.json").is_file()


@pytest.mark.parametrize(
    ("raised", "told"),
    [(None, UserError), (Stopped("asked"), UserError), (KeyError("x"), KeyError)],
)
def test_a_failed_write_hides_no_other_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception | None, told: type[Exception]
) -> None:
    """But it does hide that a run was stopped, for that one could not go on."""

    def fail(self: Checkpoints, about: About) -> None:
        self._writer.wait_until_finished()
        raise OSError("no space")

    monkeypatch.setattr(Checkpoints, "_finish", fail)
    with pytest.raises(told) as caught, Checkpoints(tmp_path / "c", 2) as checkpoints:
        checkpoints.save(state_of(1), about(1))
        if raised is not None:
            raise raised
    said = [str(caught.value), *getattr(caught.value, "__notes__", [])]
    assert any("the checkpoint of step 1 cannot be written" in text for text in said)
