"""From examples to losses: tokenisation, batched forwards, option scores."""

from zobench.objective.clean import Objective
from zobench.objective.encode import Encoded, Encoder, Row

__all__ = ["Encoded", "Encoder", "Objective", "Row"]
