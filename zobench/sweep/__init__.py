"""Sweeps: which cells a table of runs consists of, what they cost, in which state they are, and running what is left.

``python -m zobench.sweep GRID`` from a terminal; Hydra's ``--multirun`` goes through the same plan.
"""
