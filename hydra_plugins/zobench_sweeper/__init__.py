"""Hydra finds sweepers in this namespace; all that this one does is in ``zobench.sweep``."""
