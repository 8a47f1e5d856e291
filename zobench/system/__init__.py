"""The machine and the terminal: devices, costs, signals, processes, what is printed."""
