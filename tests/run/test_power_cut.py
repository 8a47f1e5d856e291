"""A power cut: what was not synced is gone, and the run still ends in the bits of the undisturbed one."""

import os
import shutil
from pathlib import Path

import pytest
from helpers.stopped import CELL, KINDS, facts, go_on, whole
from helpers.tiny_runs import summary_of

from zobench.config.signature import compose
from zobench.run.runner import run

#: of each kind of run
CUTS = int(os.environ.get("POWER_CUTS", "2"))


class Disk:
    """What of a folder would survive a power cut: contents and names as they were when they were last synced."""

    def __init__(self, root):
        self.root = Path(root).resolve()
        self.contents, self.names = {}, {}
        self.syncs, self._fsync = 0, os.fsync

    def fsync(self, fd):
        self._fsync(fd)
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        inode = os.fstat(fd).st_ino
        self.syncs += 1
        if path.is_dir():
            self.names[inode] = {entry.name: (entry.stat().st_ino, entry.is_dir()) for entry in path.iterdir()}
        else:
            self.contents[inode] = path.read_bytes()

    def after_the_cut(self, target):
        """Write what is left into a new folder."""
        self._write(self.root.stat().st_ino, Path(target))

    def _write(self, inode, target):
        target.mkdir(parents=True)
        for name, (inner, is_folder) in self.names.get(inode, {}).items():
            if is_folder:
                self._write(inner, target / name)
            else:
                (target / name).write_bytes(self.contents.get(inner, b""))


class Cut(BaseException):
    """The power is gone."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_power_cut_at_any_sync_costs_no_bit(kind, tmp_path, monkeypatch):
    options = KINDS[kind]
    reference = whole(tmp_path / "whole", *options)
    expected = facts(summary_of(reference), reference)
    folder = tmp_path / "cut" / reference.relative_to(reference.parents[3])

    def cut_at(number):
        shutil.rmtree(tmp_path / "cut", ignore_errors=True)
        folder.mkdir(parents=True)
        disk = Disk(folder)

        def fsync(fd):
            disk.fsync(fd)
            if disk.syncs == number:
                raise Cut

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            try:
                run(compose(*CELL, *options, f"runs_dir={tmp_path / 'cut'}"))
            except Cut:
                patch.setattr(os, "fsync", disk.fsync)
        return disk

    whole_disk = cut_at(None)
    assert whole_disk.syncs < 150
    for number in range(5, whole_disk.syncs, max(1, whole_disk.syncs // CUTS)):
        disk = cut_at(number)
        left = tmp_path / f"left-{number}"
        disk.after_the_cut(left / folder.relative_to(tmp_path / "cut"))
        row = go_on(left, *options)
        assert not isinstance(row, str), row
        assert facts(row, left / folder.relative_to(tmp_path / "cut")) == expected, number
