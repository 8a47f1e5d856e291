"""Whether records are what they say: files, rules, and weights and scores made again; a verdict for each run."""
