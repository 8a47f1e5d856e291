"""Answers end with their line, whichever token brings the newline, and are the same in a padded batch as alone."""

import pytest
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from zobench.objective.encode import MAX_NEW_TOKENS
from zobench.objective.generation import Greedy, end_tokens, newline_tokens
from zobench.protocols.mezo_exact.objective import SeveralLines

SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 256, "bos_token_id": None, "pad_token_id": 0, "eos_token_id": 1,
}  # fmt: skip


def byte_level():
    """Bytes, and the joined newlines of Llama 3 and Qwen as tokens of their own."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<pad>", "<end>", "<turn>", *letters, ".Ċ", "ĊĊ", "ĠĊ"]
    merges = [(".", "Ċ"), ("Ċ", "Ċ"), ("Ġ", "Ċ")]
    inner = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(word, special=True) for word in ("<pad>", "<end>", "<turn>")])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<end>")


def sentence_pieces():
    """Pieces, with newlines as a byte and within longer pieces."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", "a", ".", "▁a", "\n\n", ".\n", "Ċ"]
    inner = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [("▁", "a")], byte_fallback=True))
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>")


def test_every_token_whose_text_holds_a_newline_is_found():
    for tokenizer, expected in (
        (byte_level(), {"Ċ", ".Ċ", "ĊĊ", "ĠĊ"}), (sentence_pieces(), {"<0x0A>", "\n\n", ".\n"})
    ):  # fmt: skip
        assert set(tokenizer.convert_ids_to_tokens(sorted(newline_tokens(tokenizer)))) == expected


#: what follows "0:", "1:" ...: each ends its answer in another way, and goes on
TAUGHT = [" Rome.\nNext", " Oslo\n\nNext", " Bern\nNext", " Lima<turn>Next", " Bonn<end>Next", " U.S. \nNext", "\nNext"]
LINES = ["Rome.", "Oslo", "Bern", "Lima", "Bonn", "U.S.", ""]


@pytest.fixture(scope="module")
def taught():
    """A tiny Llama that knows these by heart, its prompts of several lengths, and its tokenizer."""
    tokenizer = byte_level()
    torch.manual_seed(0)
    config = transformers.LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=4, **SIZES)
    model = transformers.LlamaForCausalLM(config).eval()
    prompts = [tokenizer("long " * (3 * i) + f"{i}:")["input_ids"] for i in range(len(TAUGHT))]
    texts = [prompt + tokenizer(text)["input_ids"] for prompt, text in zip(prompts, TAUGHT, strict=True)]
    width = max(map(len, texts))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in texts])
    labels = torch.tensor(
        [[-100] * len(p) + t[len(p) :] + [-100] * (width - len(t)) for p, t in zip(prompts, texts, strict=True)]
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
    model.generation_config.eos_token_id = [1, 2]  # several, as Llama 3's chat models have them
    return model, tokenizer, prompts


def test_an_answer_is_the_line_up_to_whichever_token_ends_it(taught):
    model, tokenizer, prompts = taught
    greedy = Greedy(model, tokenizer)
    assert greedy.texts(prompts) == LINES
    assert [greedy.texts([prompt])[0] for prompt in prompts] == LINES
    steps = []
    handle = model.register_forward_hook(lambda *_: steps.append(1))
    greedy.texts(prompts[:1])
    handle.remove()
    assert len(steps) == len(tokenizer(" Rome.\n")["input_ids"])  # and is not generated beyond


def test_end_tokens_are_those_of_tokenizer_and_checkpoint(taught):
    model, tokenizer, _ = taught
    assert end_tokens(model, tokenizer) == {1, 2}
    before = model.generation_config
    Greedy(model, tokenizer).texts([[5, 6]])
    assert model.generation_config is before


def test_the_2023_rule_stops_at_the_lone_newline_and_the_tokenizers_end_alone(taught):
    model, tokenizer, prompts = taught
    newline = tokenizer("\n")["input_ids"][-1]
    texts = SeveralLines(model, tokenizer, [newline], [tokenizer.eos_token_id]).texts(prompts)
    assert [text == line for text, line in zip(texts, LINES, strict=True)] == [
        False, False, True, False, True, False, True,
    ]  # fmt: skip
    assert texts[0].startswith("Rome.\nNext")


FAMILIES = {
    "opt": lambda n: transformers.OPTConfig(vocab_size=n, ffn_dim=64, word_embed_proj_dim=32, **SIZES),
    "gpt2": lambda n: transformers.GPT2Config(vocab_size=n, n_embd=32, n_layer=2, n_head=4, eos_token_id=1),
    "gpt_neox": lambda n: transformers.GPTNeoXConfig(vocab_size=n, **SIZES),
    "phi": lambda n: transformers.PhiConfig(vocab_size=n, **SIZES),
    "bloom": lambda n: transformers.BloomConfig(vocab_size=n, hidden_size=32, n_layer=2, n_head=4, eos_token_id=1),
    "mistral": lambda n: transformers.MistralConfig(vocab_size=n, num_key_value_heads=2, sliding_window=8, **SIZES),
    "qwen2": lambda n: transformers.Qwen2Config(
        vocab_size=n, num_key_value_heads=2, use_sliding_window=True, sliding_window=8, max_window_layers=1, **SIZES
    ),
    "qwen3": lambda n: transformers.Qwen3Config(vocab_size=n, num_key_value_heads=2, head_dim=8, **SIZES),
    "gemma2": lambda n: transformers.Gemma2Config(
        vocab_size=n, num_key_value_heads=2, head_dim=8, sliding_window=8, **SIZES
    ),
    "granite": lambda n: transformers.GraniteConfig(vocab_size=n, num_key_value_heads=2, **SIZES),
    "mixtral": lambda n: transformers.MixtralConfig(vocab_size=n, num_key_value_heads=2, num_local_experts=2, **SIZES),
}  # fmt: skip


def opinionated(model):
    """An untrained model in which each token hangs on all before it."""
    with torch.no_grad():
        for param in model.parameters():
            param.mul_(6.0 if param.ndim > 1 else 1.0)
    return model.eval()


def prompts_of(tokenizer):
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(3, len(tokenizer) - 5, (n,), generator=generator).tolist() for n in (3, 30, 17, 17)]


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_a_padded_batch_gives_the_answers_that_each_prompt_has_alone(family):
    tokenizer = byte_level()
    torch.manual_seed(0)
    model = opinionated(transformers.AutoModelForCausalLM.from_config(FAMILIES[family](len(tokenizer))))
    greedy, prompts = Greedy(model, tokenizer, stops=[]), prompts_of(tokenizer)
    together = greedy.texts(prompts)
    assert greedy._pads is True
    assert together == [greedy.texts([prompt])[0] for prompt in prompts]
    assert len(set(together)) == len(prompts)


class Unmasked(transformers.LlamaForCausalLM):
    """A model that takes padding for text."""

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, **more):
        return super().forward(input_ids=input_ids, **more)


@torch.inference_mode()
def test_a_model_that_padding_changes_answers_prompts_of_one_length_at_a_time():
    tokenizer = byte_level()
    torch.manual_seed(0)
    config = transformers.LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=4, **SIZES)
    greedy, prompts = Greedy(opinionated(Unmasked(config)), tokenizer, stops=[]), prompts_of(tokenizer)
    together = greedy.texts(prompts)
    assert greedy._pads is False
    assert together == [greedy.texts([prompt])[0] for prompt in prompts]


@torch.inference_mode()
def test_an_answer_whose_scores_are_not_finite_is_none():
    torch.manual_seed(0)  # whose answer is text that gives its own tokens again
    tokenizer = byte_level()
    config = transformers.LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=4, **SIZES)
    model = opinionated(transformers.LlamaForCausalLM(config))
    model.get_input_embeddings().weight[9] = float("nan")
    assert Greedy(model, tokenizer).texts([[5, 9, 6], [5, 7, 6]])[0] is None
    text = Greedy(model, tokenizer, stops=[]).texts([[5, 7, 6]])[0]
    assert text is None or len(tokenizer(text)["input_ids"]) <= MAX_NEW_TOKENS
