"""SQuAD v1.1 (arXiv:1606.05250): answer a question on a paragraph in free text."""

from zobench.errors import shown
from zobench.tasks.base import Example, Row, Task


class SQuAD(Task):
    """Question answering in free text; trains on the first gold answer with its newline.

    Scored by F1 against all gold answers.
    """

    columns = ("title", "context", "question", "answers")
    not_text = ("answers",)
    metric = "f1"
    loss = "lm"

    def prompt(self, row: Row) -> str:
        return f"Title: {row['title']}\nContext: {row['context']}\nQuestion: {row['question'].strip()}\nAnswer:"

    def example(self, index: int, row: Row) -> Example:
        answers = tuple(row["answers"]["text"])
        return Example(index, self.prompt(row), (f" {answers[0]}\n",), 0, answers)

    def problem(self, row: Row) -> str | None:
        answers = row.get("answers")
        texts = answers.get("text") if isinstance(answers, dict) else None
        if isinstance(texts, list) and texts and all(isinstance(t, str) and t.strip() for t in texts):
            return None
        held = (
            f"answers.text is {shown(repr(texts))}"
            if isinstance(answers, dict)
            else f"answers is {shown(repr(answers))}"
        )
        return f"{held}, expected a list of texts that are not empty, at least one"
