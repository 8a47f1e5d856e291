"""ZOTrainer: the weights of a run, resume to the bit, all methods, what it refuses."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.loops import batch_of, checksum_of, parts_of, row_of, settings_of
from helpers.team import as_torchrun_does
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback, TrainingArguments

import zobench
from zobench import GRZO, LOREN, AdamW, CurvZO, MeZO, MeZOSVRG, ZeroShot
from zobench.integrations.transformers import STATE_FILE, ZOTrainer
from zobench.objective import MeanLoss
from zobench.zo import Diverged

STEPS = 5


def arguments(folder: Path, **more: Any) -> TrainingArguments:
    given = {
        "output_dir": str(folder),
        "use_cpu": True,
        "report_to": "none",
        "max_steps": STEPS,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
    }
    return TrainingArguments(**given | more)


def tiny(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=40, max_position_embeddings=32, **shape))


def rows(n: int = 16) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    ids = [torch.randint(0, 40, (6,), generator=generator) for _ in range(n)]
    return [{"input_ids": each, "labels": torch.where(torch.arange(6) < 2, -100, each)} for each in ids]


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: param.detach().clone() for name, param in model.named_parameters()}


def differ(a: dict[str, Tensor], b: dict[str, Tensor]) -> list[str]:
    return [name for name, tensor in a.items() if not torch.equal(tensor, b[name])]


@pytest.mark.parametrize(("method", "option"), [(MeZO, "mezo"), (CurvZO, "curvzo")])
def test_it_ends_at_the_weights_of_the_command_line(tmp_path: Path, method: type, option: str):
    cfg = settings_of(tmp_path / "runs", f"method={option}", f"steps={STEPS}", "method.lr=1e-3", "noise_seed=7")
    row = row_of(cfg)
    parts = parts_of(cfg)

    class Same(ZOTrainer):
        def compute_loss(self, model: nn.Module, inputs: Any, **how: Any) -> Tensor:
            batch = batch_of(parts, int(inputs["labels"][0]) // 4)
            return MeanLoss(parts.objective, batch, rows=1)()

    data = [{"labels": torch.tensor(i)} for i in range(4 * STEPS)]
    args = arguments(tmp_path / "out", seed=7, train_sampling_strategy="sequential", remove_unused_columns=False)
    trainer = Same(parts.model, args, train_dataset=data, method=method)
    trainer.train()
    assert trainer.optimizer.optimizer.method.oracle.forwards == row["forwards"]
    assert checksum_of(parts) == row["weights_checksum"]


def test_the_models_own_loss_gives_the_same_weights_up_to_rounding(tmp_path: Path):
    words = ("task=squad", "method=mezo", f"steps={STEPS}", "method.lr=1e-2", "method.eps=1e-2", "noise_seed=7")
    parts = parts_of(settings_of(tmp_path / "runs", *words))
    own = parts_of(settings_of(tmp_path / "runs", *words))
    start = weights(parts.model)
    for step in range(STEPS):
        parts.method.step(MeanLoss(parts.objective, batch_of(parts, step), rows=1))
    data = [each for step in range(STEPS) for each in batch_of(own, step)]

    def collate(examples: list[Any]) -> dict[str, Tensor]:
        golds = [each.rows[each.gold] for each in examples]
        width = max(len(each.ids) for each in golds)
        ids = torch.tensor([[*each.ids, *[0] * (width - len(each.ids))] for each in golds])
        ends = torch.tensor([len(each.ids) for each in golds])[:, None]
        starts = ends - torch.tensor([each.option_len for each in golds])[:, None]
        places = torch.arange(width)
        labels = torch.where((places >= starts) & (places < ends), ids, -100)
        return {"input_ids": ids, "attention_mask": (places < ends).long(), "labels": labels}

    args = arguments(
        tmp_path / "out", seed=7, learning_rate=1e-2, train_sampling_strategy="sequential", remove_unused_columns=False
    )
    ZOTrainer(own.model, args, train_dataset=data, data_collator=collate, settings={"eps": 1e-2}).train()
    moved = max(float((tensor - start[name]).abs().max()) for name, tensor in weights(parts.model).items())
    apart = max(float((tensor - weights(own.model)[name]).abs().max()) for name, tensor in weights(parts.model).items())
    assert apart < 2e-3 * moved


@pytest.mark.parametrize("name", ["MeZO", "LOREN", "LDSD", "PGAP", "TeZOAdam", "AGZO"])
def test_an_interrupted_one_goes_on_to_the_same_weights(tmp_path: Path, name: str):
    method = getattr(zobench, name)
    shared = {"lr_scheduler_type": "linear", "warmup_steps": 1, "save_strategy": "steps", "save_steps": 2}
    settings = {"total_steps": STEPS}

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            if state.global_step == 3:
                control.should_training_stop = True

    whole = ZOTrainer(
        tiny(), arguments(tmp_path / "whole", **shared), train_dataset=rows(), method=method, settings=settings
    )
    whole.train()
    args = arguments(tmp_path / "parts", **shared)
    ZOTrainer(tiny(), args, train_dataset=rows(), method=method, settings=settings, callbacks=[Stop()]).train()
    assert (tmp_path / "parts" / "checkpoint-2" / STATE_FILE).is_file()
    again = ZOTrainer(tiny(seed=5), args, train_dataset=rows(), method=method, settings=settings)
    again.train(resume_from_checkpoint=str(tmp_path / "parts" / "checkpoint-2"))
    assert differ(weights(whole.model), weights(again.model)) == []
    assert again.optimizer.optimizer.method.oracle.forwards == whole.optimizer.optimizer.method.oracle.forwards


def test_accumulated_batches_are_one_step_on_all_of_them(tmp_path: Path):
    data, found = rows(), []
    for size, parts in ((4, 1), (2, 2), (1, 4)):
        args = arguments(
            tmp_path,
            max_steps=3,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=parts,
            train_sampling_strategy="sequential",
        )
        trainer = ZOTrainer(tiny(), args, train_dataset=data, settings={"eps": 1e-2})
        trainer.train()
        found.append((weights(trainer.model), [line["loss"] for line in trainer.state.log_history if "loss" in line]))
    start = weights(tiny())
    for each, losses in found[1:]:
        assert losses == pytest.approx(found[0][1], rel=1e-4)
        assert all(torch.allclose(tensor, found[0][0][name], atol=1e-5) for name, tensor in each.items())
    assert differ(start, found[0][0])


def test_the_log_has_the_loss_and_the_forward_passes_and_no_norm_of_gradients(tmp_path: Path):
    trainer = ZOTrainer(tiny(), arguments(tmp_path), train_dataset=rows(), eval_dataset=rows(4))
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss" in line]
    assert [line["forwards"] for line in lines] == [2, 4, 6, 8, 10]
    assert all(2 < line["loss"] < 6 and "grad_norm" not in line for line in lines)
    assert trainer.evaluate()["eval_loss"] > 0


@pytest.mark.parametrize("method", [GRZO, MeZOSVRG])
def test_methods_that_ask_for_examples_or_further_batches_have_them(tmp_path: Path, method: type):
    before = weights(tiny())
    trainer = ZOTrainer(tiny(), arguments(tmp_path, max_steps=2), train_dataset=rows(), method=method)
    trainer.train()
    assert differ(before, weights(trainer.model))


def test_losses_of_examples_have_the_loss_of_the_batch_as_their_mean(tmp_path: Path):
    data = rows()
    for each in data[::2]:
        each["labels"] = torch.where(torch.arange(6) < 4, -100, each["labels"])
    args = arguments(tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    trainer = ZOTrainer(tiny(), args, train_dataset=data)
    batches = [torch.utils.data.default_collate(data[i : i + 2]) for i in (0, 2)]
    items = sum(int((each["labels"][:, 1:] != -100).sum()) for each in batches)
    for total in (items, None):
        loss = trainer._closure(trainer.model, batches, total)
        with torch.no_grad():
            whole, apart = float(loss()), loss.losses(examples=True)[0]  # type: ignore[union-attr]
        assert apart.shape == (4,)
        if total:
            assert float(apart.mean()) == pytest.approx(whole, rel=1e-5)


def mean_over_tokens(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    return nn.functional.cross_entropy(outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


@pytest.mark.parametrize("more", [{"compute_loss_func": mean_over_tokens}, {"label_smoothing_factor": 0.1}])
def test_losses_of_examples_have_that_mean_whatever_the_loss_divides_by(tmp_path: Path, more: dict[str, Any]):
    data = rows(4)
    data[0]["labels"] = torch.where(torch.arange(6) < 4, -100, data[0]["labels"])
    own = {key: value for key, value in more.items() if key == "compute_loss_func"}
    args = arguments(tmp_path, **{key: value for key, value in more.items() if key not in own})
    trainer = ZOTrainer(tiny().eval(), args, train_dataset=data, **own)
    batch = torch.utils.data.default_collate(data)
    loss = trainer._closure(trainer.model, [batch], trainer._get_num_items_in_batch([batch], args.device))
    with torch.no_grad():
        assert float(loss.losses(examples=True).mean()) == pytest.approx(float(loss()), rel=1e-5)  # type: ignore[union-attr]


def test_batches_that_are_no_dictionary_of_tensors_are_cut_into_examples(tmp_path: Path):
    class Own(ZOTrainer):
        def compute_loss(self, model: nn.Module, inputs: Any, **how: Any) -> Tensor:
            inner, words = inputs
            assert len(words["text"]) == len(inner["labels"])
            return model(**inner).loss

    def collate(examples: list[Any]) -> Any:
        return torch.utils.data.default_collate(examples), {"text": ["a"] * len(examples), "all": True}

    args = arguments(tmp_path, max_steps=1, remove_unused_columns=False)
    trainer = Own(tiny(), args, train_dataset=rows(), method=GRZO, data_collator=collate)
    trainer.train()
    assert differ(weights(tiny()), weights(trainer.model))


def test_a_scheduler_whose_state_has_numbers_as_keys_goes_on(tmp_path: Path):
    class Own(ZOTrainer):
        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            self.lr_scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, [1, 3])
            return self.lr_scheduler

    args = arguments(tmp_path, save_strategy="steps", save_steps=2)
    trainer = Own(tiny(), args, train_dataset=rows())
    trainer.train()
    again = Own(tiny(seed=5), args, train_dataset=rows())
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert again.lr_scheduler.get_last_lr() == [pytest.approx(1e-5)]
    assert differ(weights(trainer.model), weights(again.model)) == []


def test_an_evaluation_has_the_numbers_of_trainers(tmp_path: Path):
    trainer = ZOTrainer(tiny(), arguments(tmp_path, max_steps=1), train_dataset=rows(), eval_dataset=rows(4))
    assert trainer.train().metrics["forwards"] == 2
    found = trainer.evaluate()
    assert "epoch" in found
    assert "forwards" not in found


def test_what_a_step_that_broke_off_has_left_is_dropped(tmp_path: Path):
    class Break(TrainerCallback):
        def on_substep_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            control.should_training_stop = True

    args = arguments(tmp_path, gradient_accumulation_steps=2, max_steps=1)
    broken, whole = (ZOTrainer(tiny(), args, train_dataset=rows()) for _ in range(2))
    broken.add_callback(Break)
    broken.train()
    broken.remove_callback(Break)
    for trainer in (broken, whole):
        trainer.train()
    assert differ(weights(whole.model), weights(broken.model)) == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"settings": {"lr": 1.0}}, "give learning_rate in place"),
        ({"optimizers": (None, object())}, "override create_scheduler"),
    ],
)
def test_arguments_that_would_have_no_effect_are_refused(tmp_path: Path, more: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        ZOTrainer(tiny(), arguments(tmp_path), train_dataset=rows(), **more)


def test_mixed_precision_of_the_launcher_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.raises(ValueError, match="cannot use mixed_precision=bf16"):
        ZOTrainer(tiny(), arguments(tmp_path), train_dataset=rows())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"gradient_checkpointing": True}, "cannot use (activation|gradient)_checkpointing=True"),
        ({"bf16": True}, "cannot use bf16=True; load the model in that dtype"),
        ({"neftune_noise_alpha": 5.0}, "cannot use neftune_noise_alpha"),
    ],
)
def test_what_a_step_without_backward_cannot_use_is_refused(tmp_path: Path, more: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        ZOTrainer(tiny(), arguments(tmp_path, **more), train_dataset=rows())


@pytest.mark.parametrize("method", [AdamW, ZeroShot])
def test_methods_that_are_not_zeroth_order_are_refused(tmp_path: Path, method: type):
    with pytest.raises(ValueError, match="is no zeroth-order method"):
        ZOTrainer(tiny(), arguments(tmp_path), train_dataset=rows(), method=method)


def test_an_optimizer_beside_the_method_is_refused(tmp_path: Path):
    model = tiny()
    with pytest.raises(ValueError, match="makes its optimizer itself"):
        ZOTrainer(
            model, arguments(tmp_path), train_dataset=rows(), optimizers=(torch.optim.SGD(model.parameters()), None)
        )


def test_a_loss_that_is_not_finite_stops_it(tmp_path: Path):
    class Broken(ZOTrainer):
        def compute_loss(self, *args: Any, **how: Any) -> Tensor:
            return super().compute_loss(*args, **how) * torch.nan

    trainer = Broken(tiny(), arguments(tmp_path), train_dataset=rows(), settings={"mode": "exact"})
    with pytest.raises(Diverged):
        trainer.train()
    assert differ(weights(tiny()), weights(trainer.model)) == []


def test_a_checkpoint_of_another_trainer_is_refused(tmp_path: Path):
    args = arguments(tmp_path, save_strategy="steps", save_steps=2)
    ZOTrainer(tiny(), args, train_dataset=rows()).train()
    folder = tmp_path / "checkpoint-2"
    json.loads((folder / STATE_FILE).read_text())
    (folder / STATE_FILE).unlink()
    with pytest.raises(ValueError, match="is of another trainer"):
        ZOTrainer(tiny(), args, train_dataset=rows()).train(resume_from_checkpoint=str(folder))


def test_adapters_of_peft_train_and_the_rest_stays(tmp_path: Path):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny(), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    before = weights(model)
    trainer = ZOTrainer(model, arguments(tmp_path), train_dataset=rows(), method=LOREN)
    trainer.train()
    moved = differ(before, weights(model))
    assert moved
    assert all("lora_" in name for name in moved)


SCRIPT = """
import sys
sys.path[:0] = {paths!r}
from test_zo_trainer import *
trainer = ZOTrainer(tiny(), arguments({out!r}, max_steps=3, per_device_train_batch_size=2, ddp_backend="gloo",
    train_sampling_strategy="sequential"), train_dataset=rows(), settings={{"eps": 1e-2}})
trainer.train()
from safetensors.torch import save_file
save_file(weights(trainer.model), {out!r} + f"/{{trainer.args.process_index}}.safetensors")
trainer.accelerator.wait_for_everyone()
trainer.accelerator.end_training()  # a process that leaves a group open may be aborted when the other one ends
"""


def test_two_processes_take_the_same_steps_as_one_on_all_examples(tmp_path: Path):
    from safetensors.torch import load_file

    script = tmp_path / "two.py"
    script.write_text(SCRIPT.format(paths=[str(Path(__file__).parent), *sys.path], out=str(tmp_path)))
    ends = as_torchrun_does(tmp_path, module=script)
    assert [code for code, _, _ in ends] == [0, 0], ends
    first, second = (load_file(tmp_path / f"{i}.safetensors") for i in range(2))
    assert differ(first, second) == []
    args = arguments(tmp_path / "one", max_steps=3, train_sampling_strategy="sequential")
    one = ZOTrainer(tiny(), args, train_dataset=rows(), settings={"eps": 1e-2})
    one.train()
    assert all(torch.allclose(tensor, first[name], atol=1e-5) for name, tensor in weights(one.model).items())
