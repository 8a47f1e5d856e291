"""The parts of ``scripts/endure.py``: cells on disk, launchers, disturbances."""
