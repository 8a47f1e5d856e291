"""``python -m zobench.bench``: what a zeroth-order step costs in time and memory, as ratios to its forward passes."""
