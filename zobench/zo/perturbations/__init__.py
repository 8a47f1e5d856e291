"""Distributions of directions beyond the plain Gaussian; each can serve several methods."""
