"""The papers' numbers and claims, beside our runs."""
