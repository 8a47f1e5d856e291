"""A look at a task before a run: its prompts, tokens and splits, and what is odd about them."""
