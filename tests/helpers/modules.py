"""Files that are no part of a package, as modules."""

import importlib.util
import sys


def module_of(path):
    """The module that a file is: a script of scripts/ or analysis/, or code that an export wrote."""
    spec = importlib.util.spec_from_file_location(f"file_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their module
    spec.loader.exec_module(module)
    return module
