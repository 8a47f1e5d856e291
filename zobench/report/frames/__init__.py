"""Runs as data frames."""
