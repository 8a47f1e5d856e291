"""The 2023 MeZO code, bit for bit: all of it that zobench reproduces."""

from zobench.protocols.mezo_exact.protocol import MezoExact

__all__ = ["MezoExact"]
