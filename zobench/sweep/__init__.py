"""Sweeps: which cells a table consists of, in which state they are, what is left to run, and running it.

``python -m zobench.sweep GRID`` from a terminal; Hydra's ``--multirun`` goes through the same plan.
"""
