"""Tables of results, and how they are set in Markdown, LaTeX, HTML and the terminal."""
