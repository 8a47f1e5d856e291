"""Protocols: everything that two runs must share to be comparable."""

from zobench.protocols.base import Protocol
from zobench.protocols.clean import Clean
from zobench.protocols.mezo_exact import MezoExact

__all__ = ["Clean", "MezoExact", "Protocol"]
