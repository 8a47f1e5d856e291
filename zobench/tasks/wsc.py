"""WSC (the "fixed" SuperGLUE edition, arXiv:1905.00537): does a pronoun refer to a given noun."""

from zobench.tasks.base import Row, Task


class WSC(Task):
    """The Winograd schema challenge; label 0: the pronoun does not refer to the noun, 1: it does.

    66 of the 104 validation rows are 0, so that 63.5 % is the share of the majority class.
    """

    columns = ("text", "span1_text", "span2_text", "label")
    verbaliser = ("No", "Yes")

    def prompt(self, row: Row) -> str:
        pronoun = row["span2_text"].lower()
        return (
            f'{row["text"]}\nIn the previous sentence, does the pronoun "{pronoun}" '
            f"refer to {row['span1_text']}? Yes or No?\n"
        )
