"""The contracts that every method keeps, for methods inside and outside this repository.

    python -m zobench.testing --method my_pkg.MyMethod                          # every rule, mode and variant it takes
    python -m zobench.testing --method my_pkg.MyMethod --setting probes=3 -k "replay and sgd"

The contracts are plain functions (``zobench.testing.contracts``), run by pytest: ``pip install 'zobench[testing]'``.
"""
