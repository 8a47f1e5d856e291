"""Zero-shot: the pretrained model as it is, the reference every fine-tuned number must beat.

Forward passes per step: none. State: none.
"""

from zobench.zo import Method, NamedParameters


class ZeroShot(Method):
    """Evaluates the model, and never trains it."""

    forwards_per_step = 0
    trains = False

    def __init__(self, named_parameters: NamedParameters, *, seed: int = 0):
        super().__init__(named_parameters, lr=0.0, seed=seed)
