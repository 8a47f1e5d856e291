"""Waiting for what real processes do to their records."""

import time


def wait_for(condition, seconds=90, every=0.02):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(every)


def directories(runs):
    return sorted(path.parent for path in runs.glob("*/*/*/*/metrics.jsonl"))
