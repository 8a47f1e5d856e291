"""MultiRC (SuperGLUE edition, arXiv:1905.00537): is a given answer to a question on a paragraph right."""

from zobench.tasks.base import Row, Task


class MultiRC(Task):
    """Multi-sentence reading comprehension; label 0 is a wrong answer, 1 a right one.

    Each (paragraph, question, answer) is one example, as in the MeZO suite.
    """

    columns = ("paragraph", "question", "answer", "label")
    verbaliser = ("No", "Yes")

    def prompt(self, row: Row) -> str:
        return (
            f"{row['paragraph']}\nQuestion: {row['question']}\n"
            f'I found this answer "{row["answer"]}". Is that correct? Yes or No?\n'
        )
