"""Data: rows, read from the hub or from files, checked and drawn into splits."""
