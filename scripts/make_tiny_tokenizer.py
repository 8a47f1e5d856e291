"""Train the small tokenizer of the tiny models on the texts that ship with zobench."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

root = Path(__file__).parent.parent / "zobench"
rows = [json.loads(line) for path in sorted(root.glob("data/mini/*/*.jsonl")) for line in path.open(encoding="utf-8")]
texts = [value for row in rows for value in row.values() if isinstance(value, str)]
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
trainer = trainers.BpeTrainer(
    vocab_size=1024,
    special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
)
# The verbalisers are repeated so that each is one token, as it is for real models.
tokenizer.train_from_iterator(texts + ["It was great", "It was terrible", "Yes", "No"] * 200, trainer)
tokenizer.save(str(root / "models" / "tiny_tokenizer.json"))
