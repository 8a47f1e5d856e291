"""Objectives: from examples to losses, by tokenisation, batched forwards and option scores."""

from zobench.objective.clean import Objective
from zobench.objective.criterion import Criterion, Loss
from zobench.objective.encode import Encoded, Encoder, Row
from zobench.objective.mean_loss import MeanLoss
from zobench.objective.rows import Buckets

__all__ = ["Buckets", "Criterion", "Encoded", "Encoder", "Loss", "MeanLoss", "Objective", "Row"]
