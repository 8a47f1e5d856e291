"""Forward-Gradient: the exact slope along a direction (Baydin, Pearlmutter, Syme, Wood, Torr, arXiv:2202.08587).

MeZO for ε → 0: one pass by forward-mode differentiation computes the loss and its derivative along ``u``. There is no
ε, no truncation error and no difference of two losses that cancel, which makes it the ceiling of every estimator along
the same directions.

Forward passes per step: 3, as the one pass makes three products where a forward pass makes one. State: none (one tensor
set per moment with a stateful rule). Weights do not move before the step, in either mode. While the pass runs,
activations carry tangents, twice their memory; the tangent of a weight lives as long as the call that reads it.
All trainable tensors are perturbed alike: matrices, embeddings, vectors; a tied head once.

The loss must have formulas of forward mode throughout: fused attention is replaced by its plain form within the pass,
and an operation without a formula is named by a one-line error. In half precision the derivative is that of the
rounded operations.
"""

from zobench.zo import Method, Oracle


class ForwardGradient(Method):
    """``θ ← θ − lr · ⟨∇L(θ), u⟩ u``, with ``u ~ N(0, I)``."""

    forwards_per_step = 3
    differentiates = True
    decides = ("eps",)

    def update(self, oracle: Oracle) -> None:
        u = self.direction()
        oracle.notes["projected_gradient"] = slope = oracle.jvp(u)
        self.apply(slope * u)
