"""Tasks: data sets with their prompts, options and metrics, one file each."""
