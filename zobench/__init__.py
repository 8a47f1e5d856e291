"""zobench: compare zeroth-order fine-tuning methods for language models.

``from zobench import MeZO`` gives the optimizer as a library; ``python -m zobench`` runs one cell of a table.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from zobench.methods.adamw import AdamW
    from zobench.methods.mezo import MeZO

__all__ = ["AdamW", "MeZO", "__version__"]


def __getattr__(name: str) -> Any:
    # Torch takes seconds to import; the command line must answer before that.
    if name in ("AdamW", "MeZO"):
        from importlib import import_module

        return getattr(import_module(f"zobench.methods.{name.lower()}"), name)
    raise AttributeError(f"module 'zobench' has no attribute {name!r}")
