"""The user's checkout of the 2023 MeZO code (arXiv:2305.17333): whether it is that code, and functions out of it.

None of it is part of zobench. Its files are not imported, which would take packages of 2023: the functions asked for
are compiled by themselves, from their own lines.
"""

import ast
import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zobench.errors import ConfigError, UserError

REPOSITORY = "https://github.com/princeton-nlp/MeZO"
COMMIT = "552cb1b710767f9a6e1dc8f9645d7640376f9941"
TRAINER, UTILS = "large_models/trainer.py", "large_models/utils.py"
#: git's ids of the files that are read
BLOBS = {TRAINER: "304ec18fd4db00b13031a5934ff2c9a2012db0b4", UTILS: "317c039c22b38c4e54b1a5aa918eaa23fc4dec0b"}


def check(folder: Path) -> None:
    """Make sure that a folder is a checkout of the expected commit, with the files that are read as released.

    Raises:
        ConfigError: if it is not; says what it is, and the commands that make it one.
    """
    wanted = f"expected a checkout of {REPOSITORY} at {COMMIT}"
    clone = f"git clone {REPOSITORY} DIR && git -C DIR checkout {COMMIT}"
    if not folder.is_dir():
        raise ConfigError(f"--official {folder}: no such folder; {wanted}: {clone}")
    try:
        head = _git(folder, "rev-parse", "HEAD")
    except FileNotFoundError:
        raise ConfigError(f"--official {folder}: git, which tells its commit, is not installed; install git") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().partition("\n")[0]
        raise ConfigError(
            f"--official {folder}: not a git repository with a commit ({said}); {wanted}: {clone}"
        ) from None
    if head != COMMIT:
        raise ConfigError(
            f"--official {folder}: it is at commit {head}; {wanted}: git -C {folder} checkout {COMMIT}, or {clone}"
        )
    for name, blob in BLOBS.items():
        file = folder / name
        if not file.is_file():
            raise ConfigError(
                f"--official {folder}: it has no file {name}; {wanted}, its top folder; {_restore(folder, name)}"
            )
        content = file.read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        if found != blob:
            raise ConfigError(
                f"--official {folder}: {name} is not the released file (git id {found}, expected {blob}); it must be "
                f"unedited and without changed line ends; {_restore(folder, name)}"
            )


def functions(file: Path, names: Sequence[str], scope: dict[str, Any], *, of: str | None = None) -> dict[str, Any]:
    """The functions of some names that a file defines, unedited; nothing else of the file runs.

    Args:
        file: the Python file.
        names: of the functions.
        scope: the globals that the functions see; receives them as well.
        of: the class whose methods they are; None for functions of the file itself.

    Raises:
        UserError: if the file does not define them.
    """
    body = ast.parse(file.read_text(encoding="utf-8"), str(file)).body
    if of is not None:
        body = [part for node in body if isinstance(node, ast.ClassDef) and node.name == of for part in node.body]
    found = [node for node in body if isinstance(node, ast.FunctionDef) and node.name in names]
    if missing := set(names) - {node.name for node in found}:
        where = f"class {of} of {file}" if of else str(file)
        raise UserError(f"{where} does not define {', '.join(sorted(missing))}; give a checkout as released")
    # The nodes keep their line numbers, and so tracebacks show the file's own lines.
    module = ast.Module(body=list(found), type_ignores=[])
    exec(compile(module, str(file), "exec"), scope)
    return {name: scope[name] for name in names}


def _restore(folder: Path, name: str) -> str:
    return f"to restore it: git -C {folder} checkout {COMMIT} -- {name}"


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
