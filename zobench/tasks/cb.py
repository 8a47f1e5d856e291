"""CB (SuperGLUE edition, arXiv:1905.00537): does the premise entail the hypothesis, three classes."""

from zobench.tasks.base import Row, Task


class CB(Task):
    """CommitmentBank; label 0 is entailment, 1 contradiction, 2 neutral."""

    columns = ("premise", "hypothesis", "label")
    verbaliser = ("Yes", "No", "Maybe")

    def prompt(self, row: Row) -> str:
        return f'Suppose {row["premise"]} Can we infer that "{row["hypothesis"]}"? Yes, No, or Maybe?\n'
