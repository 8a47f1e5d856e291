"""Zeroth-order training inside other people's trainers."""
