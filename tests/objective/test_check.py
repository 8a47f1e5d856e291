"""The check before a run: which path is taken, what is refused, and what it leaves behind."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from helpers import matrix
from helpers.families import build
from helpers.objectives import rows_of
from torch import nn

from zobench.errors import DataError, ModelError
from zobench.models.hub import HubModel
from zobench.models.tiny import TinyOPT, tiny_tokenizer
from zobench.models.tuning import Full, LastLayers
from zobench.objective import Encoded, Encoder, Objective, check
from zobench.objective.encode import Row
from zobench.objective.heads import WeightHead
from zobench.protocols.mezo_exact.objective import OfficialObjective
from zobench.tasks.base import Example
from zobench.zo import Direction, Gaussian, make_slots
from zobench.zo.shifted import ShiftedWeights

#: one of each kind: tied, untied, with a bias behind it, capped, divided, of other layers' names
HEADS = ["opt", "llama", "phi", "gemma2", "granite", "gpt2"]
OFFSET = Direction({4: 0.02, 9: -0.03})


def objective_of(model, **settings):
    return Objective(model, None, matrix.CLASSIFICATION, **settings)


def bits(model):
    return [p.detach().clone() for p in model.parameters()]


def mean_loss(objective, batch):
    total, weight = objective.loss_sum(batch)
    return total / weight


@pytest.mark.parametrize("name", HEADS)
@torch.no_grad()
def test_weights_that_are_shown_at_an_offset_count_as_those_that_are_moved_on_every_path(name):
    """Also of the head alone, and of its bias: each is measured, whichever way the logits are computed."""
    model, batch = build(name), matrix.BATCHES[1]
    slots = make_slots(list(model.named_parameters()))
    head = [s for s in slots if any(s.param is p for p in model.get_output_embeddings().parameters())]
    check.settle(objective := objective_of(model), batch)
    fitting = [p for p in objective.paths if not isinstance(p.head, WeightHead) or objective.path.head is p.head]
    assert len(fitting) >= 4
    for chosen in (slots, *([slot] for slot in head)):
        moved = copy.deepcopy(model)
        own = dict(moved.named_parameters())
        Gaussian().move(make_slots([(s.name, own[s.name]) for s in chosen]), OFFSET)
        expected = matrix.plain_loss(moved, batch)
        assert abs(expected - matrix.plain_loss(model, batch)) > 1e-4
        for path in fitting:
            objective.path = path
            with ShiftedWeights(chosen, Gaussian()).at(OFFSET) as context:
                found = float(mean_loss(objective, batch))
            assert found == pytest.approx(expected, abs=1e-4), path.name
            assert context.seen == {slot.index for slot in chosen}


@pytest.mark.parametrize("name", HEADS)
def test_gradients_are_those_of_the_plain_forward_pass(name):
    model, batch = build(name), matrix.BATCHES[0]
    check.settle(objective := objective_of(model), batch)
    mean_loss(objective, batch).backward()
    found = [p.grad for p in model.parameters()]
    model.zero_grad()
    logits = [model(input_ids=torch.tensor([e.rows[0].ids[:-1]])).logits[0, -1] for e in batch]
    scores = torch.stack([x[[row.ids[-1] for row in e.rows]] for x, e in zip(logits, batch, strict=True)])
    F.cross_entropy(scores, torch.tensor([e.gold for e in batch])).backward()
    size = max(float(p.grad.norm()) for p in model.parameters() if p.grad is not None)
    for mine, param in zip(found, model.parameters(), strict=True):
        theirs = torch.zeros_like(param) if param.grad is None else param.grad
        assert float(((0 if mine is None else mine) - theirs).norm()) <= 1e-4 * size


@pytest.mark.parametrize(("tuning", "cache"), [(Full, 0.0), (lambda: LastLayers(layers=1), 1.0)])
def test_the_check_leaves_everything_as_it_was(tiny, mini, tuning, cache):
    task, examples = rows_of(mini, "worded")
    tuning().apply(tiny.model, tiny.spec, 0)
    batch = tiny.encoder.encode(task, examples[:5])
    objective, before = Objective(tiny.model, tiny.tokenizer, task, cache_gib=cache), bits(tiny.model)
    modules, own = [*tiny.model.modules()], [sorted(vars(m)) for m in tiny.model.modules()]
    agreement = check.settle(objective, batch)
    assert objective.path is objective.paths[0]
    assert agreement.difference < agreement.tolerance < 1e-2
    assert all(map(torch.equal, bits(tiny.model), before))
    assert all(a is b for a, b in zip(tiny.model.modules(), modules, strict=True))
    assert [sorted(vars(m)) for m in tiny.model.modules()] == own
    assert all(p.grad is None for p in tiny.model.parameters())
    assert objective.tokens == 0
    assert not cache or objective.prefix.bytes == 0


@torch.no_grad()
def test_a_bias_that_is_zero_still_counts_as_it_may_be_trained():
    model = build("phi")
    model.lm_head.bias.zero_()
    check.settle(objective := objective_of(model), matrix.BATCHES[0])
    assert objective.forward_path == "trimmed, the model's own head"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["gemma2", "granite", "llama"])
@torch.no_grad()
def test_half_precision_hides_no_cap_and_no_factor(name, dtype):
    check.settle(objective := objective_of(build(name, dtype)), matrix.BATCHES[0])
    assert objective.forward_path == ("trimmed" if name == "llama" else "trimmed, the model's own head")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_half_precision_hides_no_layer_in_which_more_than_the_attention_mixes_positions(dtype):
    """Falcon-H1's layers have a state-space part beside the attention, so that nothing can be trimmed."""
    model = build("falcon_h1", dtype)
    for batch in matrix.BATCHES:
        objective = Objective(model, None, matrix.CLASSIFICATION)
        check.settle(objective, batch)
        assert objective.forward_path == "whole, the model's own head"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sequences_that_a_batch_gives_other_frequencies_run_alone_however_short_the_check_is(monkeypatch, dtype):
    monkeypatch.setattr(check, "LONGEST", 12)  # below the length at which the frequencies change
    objective = Objective(build("phi3, longrope", dtype), None, matrix.CLASSIFICATION)
    check.settle(objective, matrix.BATCHES[0])
    assert objective.forward_path == "all logits, one sequence at a time"
    short = [e for e in matrix.BATCHES[0] if len(e.rows[0].ids) <= 16]
    check.settle(objective, short)
    assert objective.forward_path == "trimmed"


def test_a_model_that_cannot_run_a_sequence_is_refused_in_a_line():
    """MPT has a setting of its own for its positions."""
    objective = objective_of(build("mpt", positions=24))
    with pytest.raises(ModelError, match=r"^MptForCausalLM cannot run a sequence of 31 tokens: .*max_length$"):
        check.settle(objective, matrix.BATCHES[0])


def test_a_cache_that_goes_stale_is_not_used():
    """A norm ahead of the layers trains, which only shows once it has moved."""
    model = build("llama")
    LastLayers(layers=1).apply(model, None, 0)
    model.model.input_norm = nn.LayerNorm(32)
    model.model.embed_tokens.register_forward_hook(lambda module, args, out: model.model.input_norm(out))
    objective = objective_of(model, cache_gib=1.0)
    assert objective.forward_path == "from layer 3"
    agreement = check.settle(objective, matrix.BATCHES[0])
    assert objective.forward_path == "trimmed"
    assert agreement.refused["from layer 3, packed"] > 10 * agreement.tolerance
    assert objective.prefix is None


def test_a_model_whose_numbers_depend_on_the_length_is_run_without_padding():
    check.settle(objective := objective_of(build("phi3, longrope")), matrix.BATCHES[0])
    assert objective.forward_path == "all logits, one sequence at a time"
    assert matrix.difference(objective, matrix.BATCHES[0]) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_sees_later_tokens_is_refused(dtype):
    with pytest.raises(ModelError, match="BertLMHeadModel is no causal language model: other last tokens change"):
        check.settle(objective_of(build("bert, as it is", dtype)), matrix.BATCHES[0])


@torch.no_grad()
def test_numbers_that_are_not_finite_are_refused_before_any_step(tiny, mini):
    task, examples = rows_of(mini, "sst2")
    next(tiny.model.get_decoder().layers[0].parameters()).fill_(math.nan)
    with pytest.raises(ModelError, match="not finite before any step, with weights in float32"):
        check.settle(Objective(tiny.model, None, task), tiny.encoder.encode(task, examples[:4]))


@pytest.mark.parametrize("name", ["sst2", "worded", "squad"])
def test_the_official_objective_is_checked_by_its_own_loss(tiny, mini, name):
    task, examples = rows_of(mini, name)
    objective = OfficialObjective(tiny.model, tiny.tokenizer, task)
    agreement = check.settle(objective, tiny.encoder.encode(task, examples[:5]))
    assert objective.forward_path == "whole"
    assert agreement.difference <= agreement.tolerance


def test_a_model_that_padding_on_the_left_changes_is_refused_by_the_official_protocol(compose_task):
    tokenizer = tiny_tokenizer()
    with pytest.raises(ModelError, match=r"pads on the left, .* use protocol=clean"):
        check.settle(OfficialObjective(build("gpt2"), tokenizer, compose_task("sst2")), matrix.BATCHES[1])


def test_long_examples_are_cut_to_what_a_check_may_cost(monkeypatch):
    """Few sequences are run, none longer than the bound, each option kept whole."""
    model, lengths = build("llama"), []
    monkeypatch.setattr(check, "LONGEST", 20)
    model.model.layers[0].register_forward_pre_hook(lambda module, args: lengths.append(args[0].shape[1]))
    examples = [matrix.worded(i, 5 + 3 * i) for i in range(30)]
    check.settle(objective_of(model, length_buckets=1), examples)  # so that each sequence has a row
    assert max(lengths) == 20 - 1
    assert len(lengths) <= 10
    long = Row(tuple(range(50)), 30)
    assert check._cut(long, 20).ids == (0, *range(19, 50))
    assert check._cut(long, 20).option_len == 30


def test_options_of_equal_tokens_are_refused_with_their_row(load_model, mini):
    task, examples = rows_of(mini, "worded")
    encoder = load_model("tiny-opt").encoder

    def with_options(*options):
        example = examples[0]
        return encoder.encode(task, [Example(7, example.prompt, options, 0)])

    assert with_options(" good", " bad")
    for options in ((" good", " good"), (" no", " good ", " good")):
        with pytest.raises(DataError, match=r"row 7: options ' good ?' and ' good' are the same tokens \[\d+"):
            with_options(*options)


def test_options_that_are_both_unknown_are_refused(compose_task):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<unk>": 0, "It": 1, "was": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    encoder = Encoder(tokenizer, start=None, max_length=16)
    with pytest.raises(DataError, match=r"row 3: options ' great' and ' terrible' are the same tokens \[0\]"):
        encoder.encode(compose_task("sst2"), [Example(3, "It was", (" great", " terrible"), 0)])


FACTS = {"max_length": 64, "lora_targets": []}


@pytest.mark.parametrize(("front", "token", "doubted"), [
    ("<s>", "<s>", False), ("<s>", "</s>", True), ("<s>", None, True), ("</s>", "</s>", False),
    (None, "<s>", False), (None, None, False), (None, "</s>", True),
])  # fmt: skip
def test_a_start_token_that_the_tokenizer_does_not_put_in_front_is_doubted(front, token, doubted):
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny_tokenizer()
    if front:
        special = [(front, tokenizer.convert_tokens_to_ids(front))]
        tokenizer._tokenizer.post_processor = TemplateProcessing(single=f"{front} $A", special_tokens=special)
    spec = HubModel(id="x", start_token={"native": token, "mezo": token}, **FACTS)
    found = spec.start_doubt(tokenizer, "native")
    assert (found is not None) == doubted
    assert not found or ("\n" not in found and "model.start_token.native" in found)
    assert spec.start_doubt(tokenizer, "mezo") is None, "what the 2023 code put in front is known to differ"
    tiny = TinyOPT(layers=1, hidden=8, start_token={"native": token}, **FACTS)
    assert tiny.start_doubt(tokenizer, "native") is None, "its tokenizer is its own"


@pytest.mark.parametrize(("name", "expected"), [("gemma2", "eager"), ("gptj", "eager"), ("llama", "sdpa")])
def test_a_model_without_sdpa_is_loaded_with_eager(tmp_path, name, expected):
    tokenizer = tiny_tokenizer()
    build(name, vocabulary=len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    spec = HubModel(id="x", dir=str(tmp_path), start_token={"native": "<s>"}, **FACTS)
    loaded = spec.load(dtype=torch.float32, device=torch.device("cpu"), attention="sdpa")
    assert loaded.model.config._attn_implementation == expected


def test_the_reference_is_the_plain_forward_pass_of_the_examples():
    from zobench.objective.reference import Reference

    model, batch = build("llama"), matrix.BATCHES[1]
    with torch.inference_mode():
        found = Reference.of(model, batch)
        assert found.scores == pytest.approx(matrix.plain_scores(model, batch), abs=1e-6)
        assert found.loss(batch, "classification") == pytest.approx(matrix.plain_loss(model, batch), abs=1e-6)
        answers = [Encoded(Example(0, "", ("",), 0), e.rows[1:]) for e in batch]  # of three tokens each
        expected = -sum(matrix.plain_scores(model, answers)) / len(answers)
        assert Reference.of(model, answers).loss(answers, "lm") == pytest.approx(expected, abs=1e-6)
