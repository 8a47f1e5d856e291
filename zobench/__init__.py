"""zobench: compare zeroth-order fine-tuning methods for language models.

``from zobench import MeZO`` gives the optimizer as a library, and so does every method that a file of ``conf/method/``
points at; ``ZOOptimizer`` makes a ``torch.optim.Optimizer`` of any; ``python -m zobench`` runs one cell of a table.
"""

from functools import cache
from typing import TYPE_CHECKING, Any

from zobench.version import VERSION

__version__ = VERSION

if TYPE_CHECKING:  # for type checkers, which read no YAML; at run time conf/method/ is the list
    from zobench.methods.adamw import AdamW as AdamW
    from zobench.methods.agzo import AGZO as AGZO
    from zobench.methods.aim_zo import AIMZO as AIMZO
    from zobench.methods.bszo import BSZO as BSZO
    from zobench.methods.conmezo import ConMeZO as ConMeZO
    from zobench.methods.curvzo import CurvZO as CurvZO
    from zobench.methods.dizo import DiZO as DiZO
    from zobench.methods.forward_gradient import ForwardGradient as ForwardGradient
    from zobench.methods.fzoo import FZOO as FZOO
    from zobench.methods.grzo import GRZO as GRZO
    from zobench.methods.hizoo import HiZOO as HiZOO
    from zobench.methods.kerzoo import KerZOO as KerZOO
    from zobench.methods.ldsd import LDSD as LDSD
    from zobench.methods.loren import LOREN as LOREN
    from zobench.methods.lozo import LOZO as LOZO
    from zobench.methods.meazo import MEAZO as MEAZO
    from zobench.methods.mezo import MeZO as MeZO
    from zobench.methods.mezo_svrg import MeZOSVRG as MeZOSVRG
    from zobench.methods.pgap import PGAP as PGAP
    from zobench.methods.pizo import MeZOGreedy as MeZOGreedy
    from zobench.methods.pizo import MeZOGV as MeZOGV
    from zobench.methods.sparse_mezo import SparseMeZO as SparseMeZO
    from zobench.methods.subzero import SubZero as SubZero
    from zobench.methods.subzero import SubZeroPlus as SubZeroPlus
    from zobench.methods.tezo import TeZO as TeZO
    from zobench.methods.tezo import TeZOAdam as TeZOAdam
    from zobench.methods.tezo import TeZOMomentum as TeZOMomentum
    from zobench.methods.zeroshot import ZeroShot as ZeroShot
    from zobench.methods.zo_mopi import ZOMOPI as ZOMOPI
    from zobench.methods.zo_muon import ZOMuon as ZOMuon
    from zobench.zo.optimizer import ZOOptimizer as ZOOptimizer


@cache
def _modules() -> dict[str, str]:
    """Class → module of every method, as the files of conf/method/ name them, and of ``ZOOptimizer``."""
    import re

    from zobench.config.folders import conf_dir

    texts = [path.read_text(encoding="utf-8") for path in sorted((conf_dir() / "method").glob("*.yaml"))]
    targets = [match[1] for text in texts if (match := re.search(r"^_target_: *([\w.]+)", text, re.M))]
    methods = {name: module for module, _, name in (target.rpartition(".") for target in targets)}
    return methods | {"ZOOptimizer": "zobench.zo.optimizer"}


def __getattr__(name: str) -> Any:
    # Torch takes seconds to import; the command line must answer before that.
    if name == "__all__":
        return [*_modules(), "__version__"]
    if not name.startswith("_") and name in _modules():
        from importlib import import_module

        return getattr(import_module(_modules()[name]), name)
    raise AttributeError(f"module 'zobench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*(name for name in globals() if name.startswith("__")), *_modules()})
