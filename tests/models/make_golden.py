"""Writes `golden/`: a tiny model of Hugging Face's and what PyTorch computes with it.

    python tests/models/make_golden.py

needs torch and transformers. `golden/model.safetensors` and `config.json` are what
`save_pretrained` writes; `expected.json` holds the inputs, the outputs of the embeddings and of
each layer, and the logits. Run it again only when the golden model itself is to change: the values
on disk are what tests without PyTorch rely on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers

TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
GOLDEN = Path(__file__).with_name("golden")
LENGTHS = (10, 7, 1)  # of the sentences; each row has 10 positions


def main() -> None:
    config = transformers.BertConfig(
        vocab_size=53,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=16,
        id2label=dict(enumerate(TAGS)),
        label2id={tag: i for i, tag in enumerate(TAGS)},
    )
    torch.manual_seed(0)
    model = transformers.BertForTokenClassification(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Far from the initial values, where attention is all but uniform and biases are zero.
            parameter.normal_(1.0 if name.endswith("LayerNorm.weight") else 0.0, 0.3)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    tokens = torch.randint(1, config.vocab_size, mask.shape) * mask
    with torch.no_grad():
        output = model(tokens, attention_mask=mask.long(), output_hidden_states=True)

    model.save_pretrained(GOLDEN)
    stages = [("embeddings", output.hidden_states[0])]
    stages += [(f"layer_{i}", states) for i, states in enumerate(output.hidden_states[1:])]
    expected: dict[str, Any] = {"tokens": tokens.tolist(), "lengths": LENGTHS}
    for name, values in (*stages, ("logits", output.logits)):
        expected[name] = [[[round(x, 6) for x in v] for v in row] for row in values.tolist()]
    (GOLDEN / "expected.json").write_text(json.dumps(expected) + "\n", "utf-8")


if __name__ == "__main__":
    main()
