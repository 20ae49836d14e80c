"""sparsejax: prune a multilingual tagger and see which languages pay for it."""

__version__ = "0.1.0"
