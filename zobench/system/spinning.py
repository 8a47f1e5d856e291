"""How long OpenMP's threads wait awake for the next piece of work; to be said before torch is imported."""

import os

#: rounds of a waiting loop, some 20 µs; GNU's library takes 300,000 by itself, which are milliseconds
_ROUNDS = "1000"


def spin_briefly() -> None:
    """Let OpenMP's threads sleep soon after a forward pass: those that draw noise then need the cores.

    On a machine with other work a thread that waits awake also keeps those from running that it waits for. What the
    environment says already is left as it is.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = _ROUNDS
