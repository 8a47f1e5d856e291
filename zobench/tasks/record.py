"""ReCoRD (SuperGLUE edition, arXiv:1905.00537): which of a passage's names fills the gap in a sentence."""

from zobench.errors import shown
from zobench.tasks.base import Example, Row, Task

_GAP = "@placeholder"


class ReCoRD(Task):
    """Reading comprehension with commonsense reasoning; several names may be right.

    The passage, its highlights as a list, goes on with the sentence, in whose gap each name is put. The sentence with
    the first right name is learned; a choice counts as right if its name is among the right ones.
    """

    columns = ("passage", "query", "entities", "answers")
    not_text = ("entities", "answers")
    loss = "lm"

    def prompt(self, row: Row) -> str:
        return row["passage"].replace("@highlight\n", "- ") + "\n-"

    def example(self, index: int, row: Row) -> Example:
        names = list(dict.fromkeys(row["entities"]))
        options = tuple(f" {row['query'].replace(_GAP, name)}" for name in names)
        right = tuple(place for place, name in enumerate(names) if name in row["answers"])
        gold = names.index(row["answers"][0])
        return Example(index, self.prompt(row), options, gold, right=right)

    def problem(self, row: Row) -> str | None:
        for column in self.not_text:
            names = row[column]
            if not (isinstance(names, list) and names and all(isinstance(n, str) and n.strip() for n in names)):
                return f"{column} is {shown(repr(names))}, expected a list of texts that are not empty, at least one"
        if _GAP not in row["query"]:
            return f"query is {shown(repr(row['query']))}, expected {_GAP} where a name is to be put"
        if row["answers"][0] not in row["entities"]:
            return f"answers begin with {shown(repr(row['answers'][0]))}, expected one of entities"
        if len(set(row["entities"])) < 2:
            return f"entities is {shown(repr(row['entities']))}, expected two or more to choose from"
        return None
