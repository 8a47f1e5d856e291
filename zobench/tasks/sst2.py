"""SST-2 (Socher et al. 2013; GLUE edition, arXiv:1804.07461): the sentiment of a sentence."""

from zobench.tasks.base import Row, Task


class SST2(Task):
    """Sentiment of sentences from film reviews; label 0 is negative, 1 positive."""

    columns = ("sentence", "label")
    verbaliser = (" terrible", " great")

    def prompt(self, row: Row) -> str:
        return f"{row['sentence'].strip()} It was"
