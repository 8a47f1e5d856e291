"""Files of ``zobench.verify --json``, as what they say of records that are there now."""

from collections.abc import Iterable

from zobench.errors import DataError
from zobench.record.archive import Place
from zobench.record.reading import Unreadable, json_object
from zobench.report.frames.runs import Row
from zobench.report.site.content import STALE, Check

#: beside the stages of a comparison, what its verification found
FILE = "verification.json"
_LIMIT = 2**28
_WORDS = ("verified", "consistent", "refuted")


class Verdicts:
    """What verifications said of records.

    Args:
        files: as ``zobench.verify --json`` writes them.

    Raises:
        DataError: if a file is none of these.
    """

    def __init__(self, files: Iterable[Place]):
        #: digest of a record -> what was said of it
        self._of: dict[str, Check] = {}
        #: names of runs of which something was said, be it of this record or of another
        self._names: set[str] = set()
        for file in files:
            for run in _runs(file):
                self._of[run["record"]] = _check(run)
                self._names.add(str(run["run"].get("config_hash")))

    def of(self, digest: str, row: Row) -> Check:
        """What was said of a record with these very files.

        Args:
            digest: of the record's files.
            row: of the record.
        """
        if digest in self._of:
            return self._of[digest]
        if str(row.get("config_hash")) in self._names:
            return Check(STALE, "what was verified is a record of this name with other files; verify it again")
        return Check(why="no verification of this record was given")


def _runs(file: Place) -> list[Row]:
    try:
        runs = json_object(file, _LIMIT).get("runs")
    except Unreadable as error:
        raise DataError(str(error)) from error
    if not isinstance(runs, list) or not all(map(_is_verdict, runs)):
        raise DataError(f"{file}: no verdicts with digests of records; write it anew: python -m zobench.verify --json")
    return [run for run in runs if run["record"]]


def _is_verdict(run: object) -> bool:
    return (
        isinstance(run, dict)
        and run.get("verdict") in _WORDS
        and all(isinstance(run.get(name), kind) for name, kind in _KINDS.items())
    )


_KINDS = {"run": dict, "record": str, "verified": list, "unverified": dict, "differs": list}


def _check(run: Row) -> Check:
    verified, differs = [[str(each) for each in run[name]] for name in ("verified", "differs")]
    unverified = {str(what): str(why) for what, why in run["unverified"].items()}
    why = differs[0] if differs else "; ".join(f"{what}: {why}" for what, why in unverified.items())
    return Check(run["verdict"], why, verified, unverified, differs)
