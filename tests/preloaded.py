"""What a process of `test_resume` needs, imported once for all of them; nothing is computed yet."""

import datasets  # noqa: F401
import tensorboardX  # noqa: F401
import transformers  # noqa: F401

import sparsejax.runtime.checkpoint
import sparsejax.runtime.setup
import sparsejax.train  # noqa: F401
