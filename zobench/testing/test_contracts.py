"""Every contract, for every case of the methods that ``--method`` names."""

from collections.abc import Callable

from zobench.testing.cases import Case


def test_contract(case: Case, contract: Callable[[Case], None]) -> None:
    """The contract returns, or says what broke."""
    contract(case)
