"""Update rules that step by the singular vectors of an estimate, and not by its singular values."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from zobench.zo.checks import at_least, not_negative, one_of
from zobench.zo.keys import Keys
from zobench.zo.perturbations.bases import orthonormal, random_basis
from zobench.zo.rules import SGD, State, UpdateRule
from zobench.zo.slot import Slot

MatrixSign = Literal["newton_schulz", "svd", "none"]

#: of the quintic Newton-Schulz iteration ``X ← aX + (bA + cA²)X`` with ``A = XXᵀ`` (Muon, Jordan et al., 2024)
COEFFICIENTS, ITERATIONS = (3.4445, -4.7750, 2.0315), 5


def newton_schulz(matrix: Tensor) -> Tensor:
    """The matrix sign ``U Vᵀ`` of ``U S Vᵀ`` by five iterations: singular values come to lie between 0.68 and 1.21.

    Those below a hundredth of the Frobenius norm stay smaller, and 0 stays 0.

    >>> values = torch.linalg.svdvals(newton_schulz(torch.eye(4, 6) + 1.0))
    >>> bool(((0.68 < values) & (values < 1.21)).all())
    True
    """
    a, b, c = COEFFICIENTS
    X = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    X = X / (X.norm() + 1e-7)
    for _ in range(ITERATIONS):
        A = X @ X.T
        X = a * X + (b * A + c * A @ A) @ X
    return X if matrix.shape[0] <= matrix.shape[1] else X.T


def polar(matrix: Tensor) -> Tensor:
    """The matrix sign ``U Vᵀ`` of ``U S Vᵀ``, over the singular values that are not 0.

    >>> polar(torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])).abs()
    tensor([[1., 0., 0.],
            [0., 0., 0.]])
    """
    U, S, Vh = torch.linalg.svd(matrix, full_matrices=False)
    rank = S.amax() * max(matrix.shape) * torch.finfo(S.dtype).eps < S
    return (U * rank) @ Vh


SIGNS: dict[str, Callable[[Tensor], Tensor]] = {"newton_schulz": newton_schulz, "svd": polar, "none": lambda x: x}


class Spectral(UpdateRule):
    """The base of these rules: what another rule makes of an estimate, with the ``sign`` of the subclass on matrices.

    Vectors step by what the other rule makes, times a factor. Tensors of more axes are matrices of rows. In core space
    it is the core that is such a matrix.

    Args:
        rule: what comes first, such as an average; SGD if None.
        vectors: the factor for vectors, whose steps keep their length: their learning rate over that of matrices.

    Raises:
        ValueError: for a negative factor.
    """

    elementwise = False

    def __init__(self, *, rule: UpdateRule | None = None, vectors: float = 1.0):
        not_negative(vectors=vectors)
        self.rule, self.vectors = rule or SGD(), vectors
        self.linear_state = self.rule.linear_state

    def __call__(self, slot: Slot, estimate: Tensor, state: State, step: int) -> Tensor:
        made = self.rule(slot, estimate, state, step)
        if made.ndim < 2:
            return made * self.vectors
        return self.sign(slot, made.flatten(1), state, step).view_as(made)

    def sign(self, slot: Slot, matrix: Tensor, state: State, step: int) -> Tensor:
        """The step of a matrix.

        Args:
            matrix: what the other rule made of the estimate.
            slot, state, step: as for the rule itself.
        """
        raise NotImplementedError


class Muon(Spectral):
    """The matrix sign of what another rule makes: with momentum, Muon (Jordan et al., 2024). State: the other rule's.

    Args:
        msign: ``newton_schulz``, ``svd``, or ``none``: the matrix stays as it is.
        rule, vectors: as in ``Spectral``.

    Raises:
        ValueError: for an argument out of range.

    Example:
        >>> from zobench.zo import make_slots
        >>> slot = make_slots([("w", torch.zeros(2, 2))])[0]
        >>> Muon(msign="svd")(slot, torch.tensor([[5.0, 0.0], [0.0, 2.0]]), {}, 0).abs()
        tensor([[1., 0.],
                [0., 1.]])
    """

    def __init__(self, *, msign: MatrixSign = "newton_schulz", rule: UpdateRule | None = None, vectors: float = 1.0):
        one_of(get_args(MatrixSign), msign=msign)
        super().__init__(rule=rule, vectors=vectors)
        self.msign = msign

    def sign(self, slot: Slot, matrix: Tensor, state: State, step: int) -> Tensor:
        return SIGNS[self.msign](matrix)


class PowerIteration(Spectral):
    """The matrix sign along the k leading singular directions, which follow the matrix from step to step.

    ``V ← qr(Mᵀ M V)``, step ``U Vᵀ`` with the columns of ``M V`` brought to length 1 as U: one power iteration, started
    from the last step's V (arXiv:2605.09034). State: V, n × k, and the other rule's.

    Args:
        directions: k, cut to the sides of a matrix.
        forget: drop V at a refresh of core space.
        seed: names the random start of V.
        rule, vectors: as for ``Spectral``.

    Raises:
        ValueError: for an argument out of range.
    """

    def __init__(
        self,
        *,
        directions: int = 32,
        forget: bool = False,
        seed: int = 0,
        rule: UpdateRule | None = None,
        vectors: float = 1.0,
    ):
        at_least(1, directions=directions)
        super().__init__(rule=rule, vectors=vectors)
        self.directions, self.keys, self.lift_state = directions, Keys(seed), ("V",) if forget else ()

    def sign(self, slot: Slot, matrix: Tensor, state: State, step: int) -> Tensor:
        if "V" not in state:
            key, k = self.keys(step, purpose="power iteration"), min(self.directions, *matrix.shape)
            state["V"] = random_basis(slot, key, matrix.shape[1], k)
        V = state["V"] = orthonormal(matrix.T @ (matrix @ state["V"])).contiguous()
        return torch.nn.functional.normalize(matrix @ V, dim=0) @ V.T
