"""The sweepers that Hydra finds in this namespace; what they do is in ``zobench.sweep`` and in Optuna's plugin."""
