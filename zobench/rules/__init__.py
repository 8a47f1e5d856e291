"""Rules of a comparison: workloads, entries, and how an entry may be tuned, frozen by version in ``v1/`` and so on.

``python -m zobench.rules`` lists, runs and checks; ``load("v1")`` gives them as objects.
"""

from zobench.rules.files import Entry, Rules, Ruleset, Workload, load

__all__ = ["Entry", "Rules", "Ruleset", "Workload", "load"]
