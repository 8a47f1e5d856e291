"""Comparisons, submissions and verdicts, read for a leaderboard: ``python -m zobench.report RUNS --site DIR``."""
