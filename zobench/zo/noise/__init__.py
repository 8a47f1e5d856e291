"""The engine that draws: counter-based random numbers for tensors, on CPU and GPU."""

from zobench.zo.noise.draws import Distribution, add_, add_all_, add_rows_, block, blocks, draw, gaussian, piece
from zobench.zo.noise.piece import Piece

__all__ = ["Distribution", "Piece", "add_", "add_all_", "add_rows_", "block", "blocks", "draw", "gaussian", "piece"]
