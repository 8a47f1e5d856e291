"""The methods, one file each; ``update`` stands there as it does in the paper's Algorithm box."""
