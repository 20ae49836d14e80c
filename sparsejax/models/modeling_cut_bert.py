# mypy: ignore-errors, because PyTorch has no types for the layers of a model
"""A BERT in PyTorch whose layers have fewer heads, each as wide as before.

Pruned heads were cut out of it (`kept_attention_heads` in config.json are left in every layer).
`AutoModelForTokenClassification.from_pretrained(..., trust_remote_code=True)` runs this file, which
changes nothing but the sizes of four matrices.
"""

from torch import nn
from transformers import BertConfig, BertForTokenClassification


class CutBertForTokenClassification(BertForTokenClassification):
    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        kept = config.kept_attention_heads * (width // config.num_attention_heads)
        for layer in self.bert.encoder.layer:
            for name in ("query", "key", "value"):
                setattr(layer.attention.self, name, nn.Linear(width, kept))
            layer.attention.output.dense = nn.Linear(kept, width)
        self.post_init()
