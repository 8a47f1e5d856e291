"""Rows, read from the hub or from files and drawn into splits."""
