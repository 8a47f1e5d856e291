"""Damage records in every way, run every command on them, and count what came: python scripts/fuzz_records.py --help.

Each case is one change to one file of a small real run (tests/helpers/damage.py), and one command
(tests/helpers/fuzzed.py). A case is wrong if a traceback comes, if it takes longer than ten seconds of the CPU, if
``replay`` certifies weights that the run never had, if a run that is repeated or goes on ends with another result, or
if a file is read as something else than the run has written, unless the digests were made to fit.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / "tests"), str(Path(__file__).parent.parent)]

from helpers import damage, fuzzed  # noqa: E402
from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402

RESULTS = ("weights_checksum", "best_weights_checksum", "test_metric", "test/loss", "steps", "forwards", "tokens_seen")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="to go on for")
    parser.add_argument("--seed", type=int, default=0, help="number of the first round")
    parser.add_argument(
        "--only", action="append", metavar="COMMAND", help="such as report or 'run again'; may be repeated"
    )
    parser.add_argument("--files", action="append", metavar="FILE", help="such as summary.json; may be repeated")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fuzz = Fuzz(Path(folder), asked.only or list(fuzzed.COMMANDS), asked.files)
        end, number = time.monotonic() + 60 * asked.minutes, asked.seed
        while time.monotonic() < end:
            for name, file in fuzz.pairs():
                if time.monotonic() < end:
                    fuzz.some(name, file, number)
            number += 1
        print(fuzz.table(), flush=True)
    return 1 if fuzz.wrong else 0


class Fuzz:
    """Cases of all commands, and their counts."""

    def __init__(self, folder, commands, files):
        self.folder, self.commands, self.files = folder, commands, files
        (folder / "clean").mkdir()
        self.records = fuzzed.make_records(folder / "clean")
        self.results = [json.loads((folder / "clean" / self.records[0] / "summary.json").read_text())]
        shutil.copytree(folder / "clean", folder / "dirty")
        fuzzed.attempt("resume", folder / "dirty", self.records[1])
        self.results.append(json.loads((folder / "dirty" / self.records[1] / "summary.json").read_text()))
        self.counts, self.wrong, self.seen = Counter(), Counter(), set()

    def pairs(self):
        """Each command with each file of the record that it is run on; the files of one command are not in a row."""
        files = [damage.files(self.folder / "clean" / record) for record in self.records]
        files = [[file for file in each if self.files is None or file in self.files] for each in files]
        for i in range(max(map(len, files))):
            for name in self.commands:
                its = files[name == "resume"]
                if i < len(its):
                    yield name, its[i]

    def some(self, name, file, number):
        """Two cases of one command and file, which no other command, file or round has."""
        which = int(name == "resume")
        record = self.records[which]
        drawn = damage.damages(self.folder / "clean" / record, [file])
        chosen = settings(
            max_examples=3, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck]
        )
        simplest = iter([True])  # hypothesis begins with it, in every round

        @seed(f"{name} {file} {number}")
        @chosen
        @given(drawn)
        def case(change):
            if not next(simplest, False):
                self.case(name, record, self.results[which], change)

        case()

    def case(self, name, record, result, change):
        dirty = self.folder / "dirty"
        shutil.rmtree(dirty)
        shutil.copytree(self.folder / "clean", dirty, symlinks=True)
        change.apply(dirty / record)
        unsaid = "" if change.sealed else fuzzed.misread(self.folder / "clean" / record, dirty / record)
        outcome = fuzzed.attempt(name, dirty, record)
        wrong = outcome.wrong or ("misread" if unsaid else "")
        if not wrong and not (change.sealed and change.file == "summary.json"):  # which is the result that it says
            wrong = fuzzed.silent(name, dirty / record, result, outcome, RESULTS)
        self.counts[change.file, name] += 1
        if wrong:
            self.wrong[change.file, name, wrong] += 1
            last = (outcome.traceback or outcome.said).strip().splitlines()[-4:]
            if (name, change.file, *last[-3:-1]) not in self.seen:
                self.seen.add((name, change.file, *last[-3:-1]))
                print(f"{wrong}: {name}: {change}", *last, sep="\n    ", flush=True)

    def table(self):
        """Cases by file and command, in Markdown; how many were wrong behind a stroke."""
        files = sorted({file for file, _ in self.counts})
        lines = [f"| file | {' | '.join(self.commands)} |", "|---" * (1 + len(self.commands)) + "|"]
        for file in files:
            cells = []
            for name in self.commands:
                bad = ", ".join(f"{n} {kind}" for (f, c, kind), n in self.wrong.items() if (f, c) == (file, name))
                cells.append(f"{self.counts[file, name]}" + f" / {bad}" * bool(bad))
            lines.append(f"| {file} | {' | '.join(cells)} |")
        total = f"{sum(self.counts.values())} cases, {sum(self.wrong.values())} wrong"
        return "\n".join([*lines, "", total])


if __name__ == "__main__":
    sys.exit(main())
