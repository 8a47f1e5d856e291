"""Files of the Hugging Face hub, or of a mirror of it: out of the cache, and over the network what the cache lacks."""

import errno
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlparse

from zobench.errors import first_line, shown
from zobench.system import network

_COMMIT = re.compile(r"[0-9a-f]{40}")
#: errors of the cache's folder, and not of the network
_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR}


class _Listed(NamedTuple):
    """A file as the hub lists it: in git, or beside git with its SHA-256, in whose place git has a small note."""

    size: int
    git: str
    sha256: str | None


class Missing(Exception):
    """The hub does not give what is asked for, or not all of it; the message goes on after the repository's id."""


@dataclass(frozen=True)
class Repository:
    """A model or a data set of the hub.

    Attributes:
        id: such as ``facebook/opt-125m``.
        revision: a commit, branch or tag; None for the main branch.

    Example:
        >>> Repository("dataset", "nyu-mll/glue", None).page.endswith("/datasets/nyu-mll/glue")
        True
    """

    kind: Literal["model", "dataset"]
    id: str
    revision: str | None

    @property
    def page(self) -> str:
        """Its address, on the mirror where there is one."""
        return f"{network.endpoint()}/{'datasets/' * (self.kind == 'dataset')}{self.id}"

    @property
    def settings(self) -> tuple[str, str]:
        """The names of the settings of its id and revision."""
        return ("model.id", "model.revision") if self.kind == "model" else ("task.hub", "task.revision")

    def fetch(self, patterns: Sequence[str], ignore: Sequence[str] = ()) -> Path:
        """The cache's folder of the revision, with all files that fit a pattern.

        A commit whose files are in the cache needs no network. What is downloaded is compared with the hub's checksums.

        Raises:
            Missing: if a file is not in the cache and cannot be downloaded, or is damaged.
        """
        if not network.is_address(network.endpoint()):
            given = network.without_login(shown(repr(network.endpoint())))
            raise Missing(f"is not looked for: HF_ENDPOINT is {given}, expected an address such as https://my.mirror")
        before = self._blobs()
        folder = self._cached(patterns, ignore) or self._downloaded(patterns, ignore)
        self._refuse_damaged(folder, before)
        return folder

    def names(self) -> list[str]:
        """The names of all files of a commit, as far as they are known here: empty if no list is in the cache."""
        return sorted(self._listed(self.revision or "") or ())

    @property
    def _cache(self) -> Path:
        from huggingface_hub.constants import HF_HUB_CACHE

        return Path(HF_HUB_CACHE, f"{self.kind}s--{self.id.replace('/', '--')}")

    def _blobs(self) -> set[str]:
        return {path.name for path in (self._cache / "blobs").glob("*")}

    def _cached(self, patterns: Sequence[str], ignore: Sequence[str]) -> Path | None:
        """The folder of a commit if the cache has all files, which only the hub's list of them tells."""
        if not _COMMIT.fullmatch(self.revision or "") or self._listed(str(self.revision)) is None:
            return None
        try:
            return self._snapshot(patterns, ignore, online=False)
        except FileNotFoundError:
            return None

    def _downloaded(self, patterns: Sequence[str], ignore: Sequence[str]) -> Path:
        online = network.reachable()
        try:
            return self._snapshot(patterns, ignore, online)
        except Exception as error:  # of the network, the disk, the id; the library has no common base for them
            raise Missing(network.without_login(self._reason(error, online))) from error

    def _snapshot(self, patterns: Sequence[str], ignore: Sequence[str], online: bool) -> Path:
        from huggingface_hub import snapshot_download
        from huggingface_hub.utils import disable_progress_bars, logging

        logging.set_verbosity_error()
        if not sys.stderr.isatty():
            disable_progress_bars()
        return Path(
            snapshot_download(
                self.id,
                repo_type=self.kind,
                revision=self.revision,
                allow_patterns=list(patterns),
                ignore_patterns=list(ignore),
                local_files_only=not online,
            )
        )

    def _listed(self, commit: str) -> dict[str, _Listed] | None:
        """The hub's list of a commit's files, of the cache; None if it is not there.

        It is read as the hub's library stores it, whose own reader leaves out the checksums of large files.
        """
        try:
            files = json.loads((self._cache / "trees" / f"{commit}.json").read_bytes())["files"]
            return {
                name: _Listed(file["size"], file["blob_id"], file.get("lfs_sha256")) for name, file in files.items()
            }
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return None

    def _refuse_damaged(self, folder: Path, before: set[str]) -> None:
        """Remove files that are not what the hub's list says; of those that were here before, the size is compared."""
        damaged = []
        for name, file in (self._listed(folder.name) or {}).items():
            path = folder / name
            if path.exists() and (why := _damage(path.resolve(), file, before)):
                damaged.append(f"{name} {why}")
                path.resolve().unlink()
                path.unlink(missing_ok=True)
        if damaged:
            more = f", and {len(damaged) - 1} more" if damaged[1:] else ""
            raise Missing(f"was damaged: {damaged[0]}{more}. It is removed: the same command downloads it again")

    def _reason(self, error: BaseException, online: bool) -> str:
        """Why files cannot be had, in one line."""
        from huggingface_hub import errors, get_token

        place, (id, revision) = network.endpoint(), self.settings
        causes = list(_causes(error))
        cause = next((e for e in causes if isinstance(e, errors.HfHubHTTPError)), causes[-1])
        status = cause.response.status_code if isinstance(cause, errors.HfHubHTTPError) else None
        log_in = "log in once with `hf auth login` (the token stays outside zobench)"
        if isinstance(error, errors.HFValidationError):
            return f"is no id of the hub, expected ORG/NAME; check {id}"
        if isinstance(cause, errors.GatedRepoError):
            if get_token():
                return f"is gated, and your token has no access: ask for it at {self.page} with the token's account"
            return f"is gated: accept its licence at {self.page}, then {log_in}"
        if isinstance(cause, errors.RevisionNotFoundError):
            return f"has no revision {shown(self.revision)} at {place}; check {revision}"
        if isinstance(cause, errors.RepositoryNotFoundError) or status == 404:
            private = "your token has no access" if get_token() else log_in
            return f"does not exist at {place}; check {id}. If it is private: {private}"
        if status in (401, 403):
            whose = "your token is not valid, or may not read it" if get_token() else "it asks for a token"
            return f"is refused by {place} ({status}): {whose}; {log_in}"
        if status is not None:
            wait = "too many requests; wait some minutes" if status == 429 else "it has trouble; try again later"
            return f"cannot be downloaded: {place} answers {status}, {wait}"
        if not online and isinstance(error, errors.LocalEntryNotFoundError):
            variable = network.forced_offline()
            why = f"{variable} is set" if variable else f"{place} cannot be reached"
            return f"{self._in_cache(error)}, and {why}"
        if isinstance(cause, OSError) and cause.errno in _OF_THE_DISK:
            return (
                f"cannot be kept in {self._cache.parent}: {cause.strerror}; make room there, or set HF_HOME to a folder"
            )
        why = f"{type(cause).__name__}: {first_line(cause)}"
        goes_on = "files that came whole are kept, and the same command goes on with the rest"
        return f"cannot be downloaded from {place}{_sent_on(causes)}: {why}; {goes_on}"

    def _in_cache(self, error: BaseException) -> str:
        """What of it the cache lacks."""
        from huggingface_hub.errors import IncompleteSnapshotError

        if isinstance(error, IncompleteSnapshotError):
            return "is not whole in the cache"
        others = sorted(path.name for path in (self._cache / "snapshots").glob("*"))
        if self.revision and others:
            return f"is in the cache with revision {shown(', '.join(others))}, not {shown(self.revision)}"
        return "is not in the cache"


def _damage(blob: Path, file: _Listed, before: set[str]) -> str | None:
    """How a file differs from what the hub lists."""
    size = blob.stat().st_size
    if size != file.size:
        return f"has {size:,} bytes, the hub's list says {file.size:,}"
    if blob.name in before:
        return None
    digest = hashlib.sha256() if file.sha256 else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with blob.open("rb") as content:
        while part := content.read(2**20):
            digest.update(part)
    return None if digest.hexdigest() == (file.sha256 or file.git) else "is not what the hub's checksum says"


def _sent_on(causes: Iterable[BaseException]) -> str:
    """The host that did not answer, if the hub had sent the request there: its large files are often elsewhere."""
    for error in causes:
        with suppress(AttributeError, RuntimeError):  # not of a request, or of none that is known
            host = error.request.url.host  # type: ignore[attr-defined]
            return "" if host == urlparse(network.endpoint()).hostname else f", which sends to {host}"
    return ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    while True:
        yield error
        if error.__cause__ is None:
            return
        error = error.__cause__
