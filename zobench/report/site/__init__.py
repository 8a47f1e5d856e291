"""A leaderboard as a folder of pages that open without a network: boards, entries, runs."""
