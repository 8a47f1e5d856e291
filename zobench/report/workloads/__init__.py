"""Entries over several workloads: scores at equal budgets, time to a target, profiles, ranks, and what they say."""
