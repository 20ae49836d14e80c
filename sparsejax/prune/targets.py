"""What to prune: regular expressions over the paths of parameters.

A path joins the keys from the root to a leaf with slashes, as in
``encoder/layer_3/attention/query/kernel``.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax

from sparsejax.prune import patterns


@dataclasses.dataclass(frozen=True)
class Target:
    """How the leaves of one rule are pruned, where that is not as the others are.

    Attributes:
      sparsity: the final sparsity; None: that of the schedule.
      pattern: the granularity; None: that of the method.
    """

    sparsity: Any = None
    pattern: patterns.Pattern = None


Rules: TypeAlias = Sequence[tuple[str, bool | float | Target]]
"""(pattern, what) pairs. A leaf obeys the first rule whose pattern is its whole path.

False leaves it alone, True prunes it as the schedule says, a float is its own final sparsity, and
a :class:`Target` may also give it a granularity of its own.
"""

ENCODER_KERNELS: Rules = ((r"encoder/.*/kernel", True), (r".*", False))
"""The matrices of the encoder; neither biases nor norms, nor the classifier, nor embeddings."""

ENCODER_KERNELS_AND_EMBEDDINGS: Rules = ((r"embeddings/word/embedding", True), *ENCODER_KERNELS)
"""The same and the word embeddings: in a multilingual model, half of all parameters or more."""

ALL_KERNELS: Rules = ((r"(.*/)?kernel(/value)?", True), (r".*", False))
"""Every leaf that is called kernel, wherever it is: the classifier's too, and those of Flax NNX."""


def path(keys: tuple[Any, ...]) -> str:
    """A key path of ``jax.tree_util`` as text: dict keys, indices and attributes, slash-joined.

    Flax NNX keeps an array in the attribute ``value`` of a variable, as ``linear/kernel/value``;
    ``nnx.Optimizer`` shows it to a transform without, as ``linear/kernel``. Rules for NNX should
    match both.
    """
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def by_path(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree in their order, each under its path."""
    leaves: dict[str, Any] = {}
    for keys, leaf in jax.tree.leaves_with_path(tree):
        if path(keys) in leaves:
            raise ValueError(f"two parameters have the path {path(keys)!r}")
        leaves[path(keys)] = leaf
    return leaves


def resolve(rules: Rules, params: Any) -> dict[str, Target | None]:
    """Says for each leaf whether and how it is pruned.

    Patterns must match the whole path (``re.fullmatch``), so that no rule reaches further than it
    reads: ``kernel`` does not match ``encoder/layer_0/kernel_scale``.

    Args:
      rules: ordered rules; the first that matches a leaf decides it.
      params: a pytree of parameters.

    Returns:
      For the path of every leaf, in their order, a :class:`Target` or None.

    Raises:
      ValueError: if a leaf is matched by no rule, or a rule is the first match of no leaf (a typing
        error or a changed model, and the wrong things would be pruned). A last rule that leaves
        alone whatever is left may find nothing left.
    """
    unused = dict.fromkeys(range(len(rules)))
    resolved: dict[str, Target | None] = {}
    for name in by_path(params):
        for i, (pattern, what) in enumerate(rules):
            if re.fullmatch(pattern, name):
                unused.pop(i, None)
                resolved[name] = _as_target(what)
                break
        else:
            raise ValueError(f"no rule matches the parameter {name!r}")
    if rules and rules[-1][1] is False:
        unused.pop(len(rules) - 1, None)
    # A tree without leaves is optax.tree_map_params asking for the structure of a state.
    if unused and resolved:
        pattern, _ = rules[next(iter(unused))]
        raise ValueError(f"the rule {pattern!r} is not the first to match any parameter")
    return resolved


def _as_target(what: bool | float | Target) -> Target | None:
    if isinstance(what, Target):
        return what
    if isinstance(what, bool):
        return Target() if what else None
    if isinstance(what, str):
        raise ValueError(f"a rule says True, False, a sparsity or a Target, not {what!r}")
    return Target(sparsity=what)
