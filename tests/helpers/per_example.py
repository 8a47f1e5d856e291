"""A method that asks for the losses of the batch's examples."""

from zobench.zo import Method, Oracle


class Clipped(Method):
    """``θ ← θ − lr · mean_i clip((ℓ_i(θ+εu) − ℓ_i(θ−εu)) / 2ε) · u``: no example counts for more than the clip.

    The estimator of private zeroth-order training (arXiv:2310.09639), without its noise.

    Args:
        clip: of the slope of one example.
        common: the arguments of ``Method``.
    """

    def __init__(self, named_parameters, *, lr: float, clip: float = 1.0, **common):
        self.clip = clip
        super().__init__(named_parameters, lr=lr, **common)

    def update(self, oracle: Oracle) -> None:
        u = self.direction()
        plus, minus = oracle.example_losses([u * self.eps, u * -self.eps])
        slopes = [oracle.projected(p, m, self.eps) for p, m in zip(plus, minus, strict=True)]
        clipped = [max(-self.clip, min(self.clip, slope)) for slope in slopes]
        self.apply(sum(clipped) / len(clipped) * u)


def by_example(method, oracle):
    """An ``update`` that counts the examples whose loss rises, and steps against the majority."""
    u = method.direction()
    plus, minus = oracle.example_losses([u * method.eps, u * -method.eps])
    rises = [(p > m) - (p < m) for p, m in zip(plus, minus, strict=True)]
    method.apply(sum(rises) / len(rises) * u)
