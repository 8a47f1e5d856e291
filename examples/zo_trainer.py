"""transformers' Trainer without a backward pass: callbacks, evaluation, checkpoints and resume are as ever.

python examples/zo_trainer.py
"""

import tempfile

import tiny
from transformers import TrainingArguments

from zobench import LOREN
from zobench.integrations.transformers import ZOTrainer


def main(steps: int = 20) -> float:
    """Train, go on from a checkpoint, and return the mean loss on the rows."""
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=8,
            learning_rate=1e-3,
            lr_scheduler_type="linear",
            save_steps=steps // 2,
            logging_steps=steps // 4,
            use_cpu=True,
            report_to="none",
        )
        rows = tiny.rows()
        given = {"train_dataset": rows, "eval_dataset": rows, "method": LOREN, "settings": {"eps": 1e-3}}
        trainer = ZOTrainer(tiny.model(), args, **given)
        trainer.train()
        loss = trainer.evaluate()["eval_loss"]

        again = ZOTrainer(tiny.model(), args, **given)
        again.train(resume_from_checkpoint=f"{folder}/checkpoint-{steps // 2}")
        print(f"loss {loss:.6f}; with a stop half-way {again.evaluate()['eval_loss']:.6f}")
    return loss


if __name__ == "__main__":
    main()
