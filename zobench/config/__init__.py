"""What is typed and what conf/ holds: read, checked, named, made into objects."""
