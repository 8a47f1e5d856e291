"""Pretrain a tiny Llama or OPT on which full ZO fine-tuning learns SST-2 in seconds, small enough to backpropagate.

    python scripts/pretrain_tiny.py --data DIR --out FOLDER          # about two CPU minutes on one core
    python scripts/pretrain_tiny.py --data DIR --out FOLDER --family opt --draws 11 --guessed 0.1
    python -m zobench task=sst2 model=llama model.dir=FOLDER tuning=full data=local data.dir=DIR method.lr=1e-4

DIR/sst2 holds SST-2's train file in the hub's layout; FOLDER becomes a normal Hugging Face folder. Both families have 2
layers, hidden 48, MLP 96, 4 heads and a tied embedding of 1,024 byte-level BPE tokens. Llama: 95,472 parameters, rotary
positions, gated SiLU, no biases, sequences start with <s>. OPT: 99,552 parameters, 256 learned positions, ReLU, biases,
sequences start with </s>. The task's words, " great" and " terrible", are one token each.

What it saw: SST-2 train sentences, a fifth of them plain, the others followed by their LABEL in words that the task
does not use ("It felt good", "The film is poor"). So the sentiment is in its features, and what is left to learn is to
say it in the task's words, "It was great" or "It was terrible", which never follow a sentence here. How much of that is
there without training is chance: the OPT guesses 0.73 of the test rows, the Llama 0.51 or 0.65, as other rows are held
out. With --guessed, that share of the labelled sentences is followed by the task's words, one or the other at random:
then an untrained model's answer says nothing. Its numbers are those of a model that knows sentiment: compare methods on
it, not models.

What it did not see: the validation file, from which zobench draws its test rows, and the train rows (with their exact
repetitions) that zobench draws as train and dev under data_seed 0 to 4, or as many as --draws says. SST-2's train file
holds phrases of its sentences as rows of their own, so parts of those sentences were seen.

Repeats bit for bit on one machine: seeded, one thread.
"""

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from zobench.data.files import read

SEED = 0
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # their places are their ids
PAD, EOS = 1, 2
START = {"llama": 0, "opt": EOS}  # the token that sequences start with
#: prompt, word of label 0, word of label 1
TEMPLATES = (("It felt", " bad", " good"), ("I was", " sad", " happy"), ("The film is", " poor", " fine"))
TASK = ("It was", " terrible", " great")
PLAIN = 0.2  # share of the sentences without a label
LABEL_WEIGHT = 20.0  # of a label's token in the loss; 1 taught the features too slowly
BATCH, BUCKET, LR, WARMUP = 64, 50, 4e-3, 100  # batches are cut from runs of BUCKET batches sorted by length

DRAWS = 5
DRAWN = 1500  # conf/task/sst2.yaml: 1,000 train, 500 dev, as zobench/data/rows.py draws


def unseen(n: int, draws: int) -> np.ndarray:
    """The rows of a train file of ``n`` rows that zobench draws under the ``data_seed`` from 0 to draws - 1, sorted."""
    return np.unique(np.concatenate([np.random.RandomState(seed).permutation(n)[:DRAWN] for seed in range(draws)]))


def corpus(path: Path, draws: int = DRAWS) -> list[tuple[str, int]]:
    """(sentence, label) of the train rows that the model may see."""
    rows = [(row["sentence"].strip(), row["label"]) for row in read(path).take(("sentence", "label"))]
    held_out = {rows[i][0] for i in unseen(len(rows), draws)}
    return [row for row in rows if row[0] not in held_out]


def train_tokenizer(sentences: Sequence[str], start: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [f" {prompt}{word}" for prompt, *words in (*TEMPLATES, TASK) for word in words]
    # Prompts and words are repeated so that each word is one token.
    tokenizer.train_from_iterator([*sentences, *texts * 500], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=SPECIAL[start], pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def batches(
    rows: Sequence[tuple[str, int]], tokenizer: Any, rng: np.random.Generator, guessed: float
) -> Iterator[tuple[Tensor, Tensor]]:
    """Token ids and the weights of their losses, both (batch, length), without end.

    Args:
        rows: sentences and labels.
        tokenizer: of the model.
        rng: draws the order, and what follows each sentence.
        guessed: share of the labelled sentences that the task's prompt follows, with a word drawn at random.
    """
    sentences = tokenizer([sentence for sentence, _ in rows])["input_ids"]
    labels = np.array([label for _, label in rows])
    tails = [[tokenizer(f" {prompt}{word}")["input_ids"] for word in words] for prompt, *words in (*TEMPLATES, TASK)]
    while True:
        plain = rng.random(len(rows)) < PLAIN
        template = rng.integers(len(TEMPLATES), size=len(rows))
        order = rng.permutation(len(rows))
        word = labels
        if guessed:
            by_chance = rng.random(len(rows)) < guessed
            template = np.where(by_chance, len(TEMPLATES), template)
            word = np.where(by_chance, rng.integers(2, size=len(rows)), labels)
        endings = [[EOS] if plain[i] else tails[template[i]][word[i]] for i in range(len(rows))]
        groups = []
        for start in range(0, len(order), BATCH * BUCKET):
            bucket = sorted(order[start : start + BATCH * BUCKET], key=lambda i: len(sentences[i]) + len(endings[i]))
            groups += [bucket[k : k + BATCH] for k in range(0, len(bucket), BATCH)]
        for k in rng.permutation(len(groups)):
            texts = [[tokenizer.bos_token_id, *sentences[i], *endings[i]] for i in groups[k]]
            ids = torch.full((len(texts), max(map(len, texts))), PAD)
            weights = torch.zeros(ids.shape)
            for j, (i, text) in enumerate(zip(groups[k], texts, strict=True)):
                ids[j, : len(text)] = torch.tensor(text)
                weights[j, : len(text)] = 1.0
                if not plain[i]:
                    weights[j, len(text) - 1] = LABEL_WEIGHT
            yield ids, weights


def random_model(family: str, vocabulary: int) -> PreTrainedModel:
    """A model of a family with torch's random numbers as weights."""
    common = {
        "vocab_size": vocabulary,
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "tie_word_embeddings": True,
        "bos_token_id": START[family],
        "pad_token_id": PAD,
        "eos_token_id": EOS,
    }
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(intermediate_size=96, **common))
    return OPTForCausalLM(
        OPTConfig(ffn_dim=96, word_embed_proj_dim=48, max_position_embeddings=256, dropout=0.0, **common)
    )


def pretrain(model: PreTrainedModel, data: Iterator[tuple[Tensor, Tensor]], steps: int) -> None:
    """AdamW with a cosine schedule. Prints the mean losses of text and labels since the last line."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=(0.9, 0.99), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(1.0, (s + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * s / steps))
    )
    sums, counts, began = torch.zeros(2), torch.zeros(2), time.process_time()
    for step, (ids, weights) in zip(range(1, steps + 1), data, strict=False):
        logits = model(input_ids=ids).logits[:, :-1]
        losses = cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        weights = weights[:, 1:]
        optimizer.zero_grad()
        ((losses * weights).sum() / weights.sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        for kind, mask in enumerate((weights == 1.0, weights == LABEL_WEIGHT)):
            sums[kind] += losses.detach()[mask].sum()
            counts[kind] += mask.sum()
        if step % 250 == 0 or step == steps:
            text, label = (sums / counts).tolist()
            seconds = time.process_time() - began
            print(f"step {step:5}  text loss {text:.3f}  label loss {label:.3f}  {seconds:.0f} CPU s", flush=True)
            sums.zero_()
            counts.zero_()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with sst2/train.parquet")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--family", choices=tuple(START), default="llama")
    parser.add_argument("--draws", type=int, default=DRAWS, help="draws of train and dev rows that are held out")
    parser.add_argument("--guessed", type=float, default=0.0, help="share of answers to the task, drawn at random")
    parser.add_argument("--steps", type=int, default=2500)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    rows = corpus(options.data / "sst2" / "train.parquet", options.draws)
    tokenizer = train_tokenizer([sentence for sentence, _ in rows], START[options.family])
    model = random_model(options.family, len(tokenizer))
    print(f"{model.num_parameters():,} parameters, {len(rows):,} of SST-2's train rows", flush=True)
    pretrain(model, batches(rows, tokenizer, np.random.default_rng(SEED), options.guessed), options.steps)
    model.save_pretrained(options.out)
    if options.family == "opt":  # OPT's own tokenizer puts its start token in front
        front = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", EOS)])
        tokenizer.backend_tokenizer.post_processor = front
    tokenizer.save_pretrained(options.out)


if __name__ == "__main__":
    main()
