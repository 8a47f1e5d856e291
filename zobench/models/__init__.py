"""Models: how each is loaded, and which of its parameters train."""
