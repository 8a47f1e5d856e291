"""Who may be compared, at which rate, and how sure a difference is."""
