"""Every method found in conf/, and the cases on which its contracts are tested."""

import torch

from zobench.config.folders import conf_dir
from zobench.config.options import defaults, load_yaml
from zobench.testing.cases import MODES, Case, cases, rules

CONF = conf_dir() / "method"
METHODS = sorted(path.stem for path in CONF.glob("*.yaml"))


def node_of(name, rule=None, **settings):
    """The settings of a method's YAML file, with its own update rule or another one, by its name or as a node."""
    path = CONF / f"{name}.yaml"
    node = {key: value for key, value in load_yaml(path).items() if key != "defaults"}
    for option in defaults(path).get("rule", ()):
        node["rule"] = rule if isinstance(rule, dict) else rules()[rule or option]
    return node | settings


def _target(name):
    return load_yaml(CONF / f"{name}.yaml")["_target_"]


ZEROTH_ORDER = [name for name in METHODS if "mode" in node_of(name)]


def in_core_space(rule):
    """The node of a rule in core space."""
    return {"_target_": "zobench.zo.CoreSpace", "rule": rules()[rule]}


#: settings that neither a rule nor a variant brings
SWITCHED = [
    ("mezo", "probes", {"probes": 3, "distribution": "rademacher"}),
    ("mezo", "low_rank", {"distribution": "low_rank", "rank": 2}),
    ("mezo", "low_rank-exact", {"distribution": "low_rank", "rank": 2, "probes": 2, "mode": "exact"}),
    ("fzoo", "reuse", {"probes": 4, "reuse": True}),
    ("fzoo", "reuse-official-exact", {"probes": 4, "reuse": True, "variant": "official", "mode": "exact"}),
    ("kerzoo", "official-adam", {"variant": "official", "rule": "adam"}),
    ("kerzoo", "official-sign", {"variant": "official", "rule": "sign"}),
    ("kerzoo", "tensor", {"r_scope": "tensor"}),
    ("kerzoo", "clip", {"clip": 0.5, "order": 5}),
    ("loren", "official-sgd", {"variant": "official", "weight_decay": 0.0, "rule": "sgd", "mode": "exact"}),
    ("loren", "antithetic", {"antithetic": True, "cov_scale": "inverse", "one_dim": "isotropic"}),
    ("loren", "query", {"update_per": "query", "mode": "exact", "vector_momentum": True}),
    ("ldsd", "official-jaguar", {"variant": "official", "rule": "jaguar", "lr_mu": 0.3}),
    ("sparse_mezo", "vectors", {"density": 0.6, "mask_vectors": True}),
    ("sparse_mezo", "core-jaguar", {"rule": in_core_space("jaguar")}),
    ("conmezo", "ramp", {"beta_hold": 1, "beta_ramp": 4, "beta": 0.9, "theta": 1.0}),
    ("conmezo", "wide", {"theta": 1.5707963267948966}),
    ("hizoo", "moving", {"alpha": 0.01}),
    ("hizoo", "moving-official-adam", {"alpha": 0.01, "variant": "official", "rule": "adam", "mode": "exact"}),
    ("lozo", "refresh", {"interval": 2, "rank": 3}),
    ("lozo_m", "refresh", {"interval": 2}),
    ("meazo", "probes", {"probes": 3, "beta": 0.5}),
    ("mezo_greedy", "probes", {"probes": 4, "rule": "momentum"}),
    ("mezo_gv", "probes", {"probes": 4, "elite": 0.25}),
    ("mezo_gv", "history", {"history": True, "mode": "exact"}),
    ("mezo_gv", "official-adam", {"variant": "official", "rule": "adam"}),
    ("dizo", "projections", {"interval": 2, "inner_steps": 2, "projected": "layer|head", "lr_projection": 20.0}),
    ("dizo", "projections-momentum", {"interval": 3, "inner_steps": 2, "mode": "exact", "rule": "momentum"}),
    ("mezo_svrg", "annealed", {"interval": 3, "window": 2, "tolerance": 1.0, "mode": "exact"}),
    ("agzo", "central", {"central": True, "rank": 3, "oversampling": 0, "mode": "exact"}),
    ("aim_zo", "refresh", {"interval": 3, "rank": 6, "shared": 2, "sampled": 2, "probes": 4}),
    ("pgap", "refresh", {"refresh": 3, "rank": 3, "probes": 2}),
    ("pgap", "refresh-core-momentum", {"refresh": 3, "rank": 3, "probes": 2, "rule": in_core_space("momentum")}),
    ("pgap", "random", {"refresh": 3, "rank": 3, "basis": "random"}),
    ("subzero", "refresh", {"interval": 3, "rank": 3}),
    ("subzero", "reshape", {"interval": 3, "rank": 3, "reshape": True}),
    ("subzero_plus", "refresh", {"interval": 3, "rank": 2, "probes": 5, "mode": "exact"}),
    ("zo_muon", "refresh", {"interval": 3, "rank": 3, "msign": "svd"}),
    ("zo_mopi", "refresh", {"interval": 3, "rank": 3, "directions": 2, "probes": 2}),
]


def _node(name, **settings):
    """Without the learning rate, which is made for language models."""
    return {key: value for key, value in node_of(name, **settings).items() if key != "lr"}


#: YAML files of a class that an earlier one points at: the same method at other settings
PRESETS = [name for i, name in enumerate(METHODS) if _target(name) in map(_target, METHODS[:i])]
CASES = [case for name in METHODS if name not in PRESETS for case in cases(name, _node(name))]
#: every second pair of a mode and a rule that is not the method's own: slow, as each rule and each mode has others
SELDOM = {
    f"{name}-{rule}-{MODES[(i + j) % 2]}"
    for i, name in enumerate(ZEROTH_ORDER)
    for j, (rule, node) in enumerate(rules().items())
    if node != node_of(name).get("rule")
}
CASES += [Case(f"{name}-{mode}", _node(name, mode=mode), plain=mode != "exact") for name in PRESETS for mode in MODES]
CASES += [Case(f"{name}-{word}", _node(name, **switches), plain=False) for name, word, switches in SWITCHED]


def make(problem, name, **settings):
    """A method on a problem's weights with the settings of its YAML file, but for the learning rate."""
    return Case(name, _node(name)).method(problem, **settings)


def descended(make, dtype):
    """A vector after five steps of a method on its squared norm."""
    x = torch.linspace(-1, 1, 50).to(dtype)
    method = make([("x", x)], lr=0.01)
    for _ in range(5):
        method.step(lambda: x.float().square().sum())
    return x
