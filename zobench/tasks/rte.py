"""RTE (SuperGLUE edition, arXiv:1905.00537): does the premise entail the hypothesis."""

from zobench.tasks.base import Row, Task


class RTE(Task):
    """Recognising textual entailment; label 0 is entailment, 1 is not."""

    columns = ("premise", "hypothesis", "label")
    verbaliser = ("Yes", "No")

    def prompt(self, row: Row) -> str:
        return f'{row["premise"]}\nDoes this mean that "{row["hypothesis"]}" is true? Yes or No?\n'
