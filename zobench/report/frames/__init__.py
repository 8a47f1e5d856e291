"""Runs as data frames, from folders, zips and wandb."""
