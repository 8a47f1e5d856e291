"""DiZO: divergence-driven zeroth-order optimization (Tan et al., arXiv:2502.03304, its projection searched by ZO).

MeZO, and every κ steps a projection: the way ``Δ_l = θ_l − θ₀,l`` that each of some matrices has come from where it
started is scaled to a length γ_l. The lengths start at ``‖Δ_l‖`` and are found by central differences on further
batches: ``γ ← clip(γ − lr_projection·‖Δ‖·c·z, (1 ∓ τ)‖Δ‖)``, z_l normal, and clipped to ``±τ‖Δ_l‖/ε``.

Forward passes per step: 2, and 2 for each inner step at a projection. State: θ₀ of the projected matrices; at a
projection, as much again for a while. Matrices, embeddings and vectors are perturbed alike in MeZO's steps, a tied head
once. A projection is no step along a gradient: the update rule, the rate and weight decay have no part in it. With
LoRA, θ₀ of the second factor is 0. A model whose names match nothing, as GPT-2, has all its matrices projected.

``variant`` gives the switches their values; a switch that is set by itself wins:

    switch      paper           official               what it does
    projected   q_proj|v_proj   k_proj…|v_proj…|lora   which matrices are projected, as a pattern of names: queries and
                                                       values, or keys and values, and with LoRA all factors
    exclude     ''              decoder.embed_tokens   part of names not to train: OPT's token embedding, and its head

Official follows github.com/Skilteee/DiZO @b05e73d. Where ways are scaled, 1e-8 is added to their length, as there. That
code also leaves the embedding alone with full tuning only, has no weight decay, and draws z of a projection from
torch's running stream; these have no switch.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zobench.methods.variants import resolve, without
from zobench.zo import Direction, Gaussian, Method, NamedParameters, Oracle, Slot, Unsuited, central_difference, noise
from zobench.zo.checks import at_least, not_negative, positive, within
from zobench.zo.perturbations.displaced import Displaced

#: keeps a division by the length of a way off 0
TINY = 1e-8


@dataclass(frozen=True)
class Switches:
    """What a variant sets; the defaults are the paper's."""

    projected: str = "q_proj|v_proj"
    exclude: str = ""


OFFICIAL = Switches(projected=r"k_proj\.weight|v_proj\.weight|lora", exclude="decoder.embed_tokens")
VARIANTS = {"paper": Switches(), "official": OFFICIAL}


class DiZO(Method):
    """``θ ← θ − lr · (L(θ+εu) − L(θ−εu)) / 2ε · u``, and every κ steps ``θ_l ← θ₀,l + γ_l Δ_l / ‖Δ_l‖``.

    Args:
        variant: ``paper`` or ``official``: the values of the switches of the module's table where they are None.
        interval: κ, steps between two projections.
        inner_steps: steps of the search for γ, each on a further batch.
        eps_projection: perturbation scale of γ.
        lr_projection: learning rate of γ.
        clip: τ, the largest share by which a projection changes a length; 0 is MeZO.
        settings: the switches, and the arguments of ``Method``.
    """

    variants = VARIANTS

    def __init__(
        self,
        named_parameters: NamedParameters,
        *,
        variant: str = "paper",
        interval: int = 50,
        inner_steps: int = 10,
        eps_projection: float = 0.1,
        lr_projection: float = 2.0,
        clip: float = 0.2,
        **settings: Any,
    ):
        asked = settings.get("projected")
        on = resolve(VARIANTS, variant, settings)
        try:
            pattern = re.compile(on.projected)
        except re.error as error:
            raise ValueError(f"projected={on.projected}: {error}; expected a pattern of names") from None
        at_least(1, interval=interval, inner_steps=inner_steps)
        positive(eps_projection=eps_projection)
        not_negative(lr_projection=lr_projection)
        within("[0, 1)", clip=clip)
        self.space = Displaced(Gaussian(), self.projects)
        super().__init__(without(on.exclude, named_parameters), perturbation=self.space, **settings)
        matrices = {slot.name for slot in self.slots if slot.kind == "matrix"}
        self.projected = {name for name in matrices if pattern.search(name)}
        if asked is None:
            self.projected = self.projected or matrices
        self.interval, self.inner_steps, self.clip = interval, inner_steps, clip
        self.eps_projection, self.lr_projection = eps_projection, lr_projection

    def projects(self, slot: Slot) -> bool:
        """Whether the way of a slot is scaled."""
        return slot.name in self.projected

    def forwards_at(self, step: int) -> int:
        return 2 + 2 * self.inner_steps * ((step + 1) % self.interval == 0)

    def update(self, oracle: Oracle) -> None:
        if not self.projected:
            names = [slot.name for slot in self.slots if slot.kind == "matrix"][:8]
            raise Unsuited(
                f"method.projected: no trainable matrix has such a name; there are {', '.join(names) or 'none'}"
            )
        u = self.direction()
        self.apply(central_difference(oracle, u, self.eps) * u)
        if (self.t + 1) % self.interval == 0:
            self.project(oracle)

    def project(self, oracle: Oracle) -> None:
        """Search the lengths γ, and scale the ways to them."""
        n, eps, most = self.space.measure(self.slots), self.eps_projection, self.clip
        gamma = n
        for i in range(self.inner_steps):
            z = self.normals(i).clamp(-most / eps * n, most / eps * n)
            with oracle.on(first=i):
                plus, minus = oracle.losses([self.scaled(gamma + side * eps * z, n) for side in (1.0, -1.0)])
            c = oracle.projected(plus, minus, eps)
            gamma = (gamma - self.lr_projection * n * c * z).clamp((1 - most) * n, (1 + most) * n)
        self.move(self.scaled(gamma, n))
        self.space.forget()

    def normals(self, query: int) -> Tensor:
        """A normal number for each way."""
        key, device = self.keys(self.t, query, "projection"), torch.device("cpu")
        drawn = [noise.gaussian(key, slot.id, torch.Size([]), device) for slot in filter(self.projects, self.slots)]
        return torch.stack(drawn).double()

    def scaled(self, gamma: Tensor, lengths: Tensor) -> Direction:
        """The move that gives the ways other lengths."""
        weights = (gamma / (lengths + TINY) - 1.0).tolist()
        slots = filter(self.projects, self.slots)
        return Direction({self.space.key(slot): weight for slot, weight in zip(slots, weights, strict=True)})
