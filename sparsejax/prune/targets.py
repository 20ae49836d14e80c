"""What to prune: regular expressions over the paths of parameters.

A path joins the keys from the root to a leaf with slashes, as in
``encoder/layer_3/attention/query/kernel``.
"""

import re
from collections.abc import Sequence
from typing import Any

import jax

Rules = Sequence[tuple[str, bool]]
"""(pattern, prune?) pairs. A leaf obeys the first rule whose pattern is its whole path."""

ENCODER_KERNELS: Rules = ((r"encoder/.*/kernel", True), (r".*", False))
"""The matrices of the encoder; neither biases nor norms, nor the classifier, nor embeddings."""

ENCODER_KERNELS_AND_EMBEDDINGS: Rules = ((r"embeddings/word/embedding", True), *ENCODER_KERNELS)
"""The same and the word embeddings: in a multilingual model, half of all parameters or more."""


def path(keys: tuple[Any, ...]) -> str:
    """A key path of ``jax.tree_util`` as text: dict keys, indices and attributes, slash-joined."""
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def resolve(rules: Rules, params: Any) -> Any:
    """Says for each leaf whether it is pruned.

    Patterns must match the whole path (``re.fullmatch``), so that no rule reaches further than it
    reads: ``kernel`` does not match ``encoder/layer_0/kernel_scale``.

    Args:
      rules: ordered rules; the first that matches a leaf decides it.
      params: a pytree of parameters.

    Returns:
      A pytree of Python booleans like ``params``.

    Raises:
      ValueError: if a leaf is matched by no rule, or a rule is the first match of no leaf (a typing
        error or a changed model, and the wrong things would be pruned).
    """
    unused = dict.fromkeys(range(len(rules)))

    def decide(keys: tuple[Any, ...], leaf: Any) -> bool:
        del leaf
        for i, (pattern, prune) in enumerate(rules):
            if re.fullmatch(pattern, path(keys)):
                unused.pop(i, None)
                return prune
        raise ValueError(f"no rule matches the parameter {path(keys)!r}")

    targets = jax.tree.map_with_path(decide, params)
    # A tree without leaves is optax.tree_map_params asking for the structure of a state.
    if unused and jax.tree.leaves(targets):
        pattern, _ = rules[next(iter(unused))]
        raise ValueError(f"the rule {pattern!r} is not the first to match any parameter")
    return targets
