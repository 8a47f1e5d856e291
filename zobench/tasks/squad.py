"""SQuAD v1.1 (arXiv:1606.05250): answer a question on a paragraph in free text."""

from zobench.tasks.base import Example, Row, Task


class SQuAD(Task):
    """Question answering in free text; trains on the first gold answer with its newline.

    Scored by F1 against all gold answers.
    """

    columns = ("title", "context", "question", "answers")
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
        return None if texts else "answers.text is empty, expected at least one answer"
