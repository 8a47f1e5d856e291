"""Toy methods, one for each thing that a method may ask for, keep every contract."""

import pytest

from zobench.testing.cases import Case
from zobench.testing.contracts import pairs

TOYS = {
    "momentum of cores": {"_target_": "helpers.toys.LowRankMomentum", "refresh": 3},
    "adam of cores": {"_target_": "helpers.toys.LowRankAdam", "refresh": 4, "mode": "exact"},
    "p-gap with momentum of cores": {
        "_target_": "zobench.methods.pgap.PGAP", "refresh": 3, "rank": 3, "probes": 2,
        "rule": {"_target_": "zobench.zo.CoreSpace", "rule": {"_target_": "zobench.zo.Momentum"}},
    },
    "anchor on a large batch": {"_target_": "helpers.toys.Anchored"},
    "anchor on a large batch, exact": {"_target_": "helpers.toys.Anchored", "mode": "exact"},
    "inner steps on further batches": {"_target_": "helpers.toys.Inner"},
    "directions from activations": {"_target_": "helpers.toys.ActivationGuided"},
    "directions from activations, exact": {"_target_": "helpers.toys.ActivationGuided", "mode": "exact"},
    "forward gradient": {"_target_": "helpers.toys.ForwardGradient"},
    "forward gradient, momentum, exact": {
        "_target_": "helpers.toys.ForwardGradient", "rule": {"_target_": "zobench.zo.Momentum"}, "mode": "exact",
    },
    "momentum of cores under a mask": {
        "_target_": "zobench.methods.sparse_mezo.SparseMeZO",
        "rule": {"_target_": "zobench.zo.CoreSpace", "rule": {"_target_": "zobench.zo.Jaguar"}},
    },
}  # fmt: skip
PAIRS = pairs(Case(name, node) for name, node in TOYS.items())


@pytest.mark.parametrize(("case", "contract"), PAIRS.values(), ids=PAIRS)
def test_contract(case, contract):
    contract(case)
