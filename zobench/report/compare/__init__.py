"""Who may be compared, at which learning rate, and how sure a difference is."""
