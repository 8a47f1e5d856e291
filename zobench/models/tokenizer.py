"""A model's tokenizer: how it is loaded, what it is, and whether its ids are the model's."""

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zobench.errors import ModelError, first_line, shown
from zobench.models.folder import Unusable
from zobench.objective import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: the files of a tokenizer, of which a folder has some
FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "vocab.txt", "merges.txt", "chat_template.*", "*.model", "*.tiktoken",
)  # fmt: skip
#: a text that any tokenizer has tokens for
_ANY_TEXT = "It was."


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Load the tokenizer of a folder.

    Raises:
        Unusable: if it is missing or damaged, or comes with its own code.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
        ids = tokenizer(_ANY_TEXT, add_special_tokens=False)["input_ids"]
    except Exception as error:  # the libraries read its files without a check, and fail in any way
        if "trust_remote_code" in str(error):
            raise Unusable("its tokenizer comes with its own code (auto_map), which is not run") from error
        raise Unusable(f"the tokenizer is missing or damaged: {type(error).__name__}: {first_line(error)}") from error
    if not ids:  # some families make an empty one where there are no files
        raise Unusable("the tokenizer is missing or damaged: it has no tokens for a text")
    return tokenizer


def save_tokenizer(tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Write a tokenizer: the files that it was read from as they are, or its own where there are none.

    The library writes what it made of them, which may be another normaliser, and what it was asked in loading them.
    """
    source = Path(tokenizer.name_or_path)
    files = {path for pattern in FILES for path in source.glob(pattern)} if tokenizer.name_or_path else set()
    for path in files:
        shutil.copyfile(path, folder / path.name)
    if not files:
        tokenizer.save_pretrained(folder)


def check_vocabulary(tokenizer: "PreTrainedTokenizerBase", model: "PreTrainedModel") -> None:
    """Refuse a tokenizer that is obviously of another model: with less than half the tokens that the model knows.

    One with more is told by the ids that the data really have, in ``check_ids``.

    Raises:
        Unusable: naming both numbers.
    """
    rows = embedding_rows(model)
    if 2 * len(tokenizer) < rows:
        raise Unusable(
            f"its tokenizer has {len(tokenizer):,} tokens, its embedding {rows:,} rows: they are not of the same model"
        )


def embedding_rows(model: "PreTrainedModel") -> int:
    """How many token ids a model knows."""
    weight: Any = model.get_input_embeddings().weight
    return int(weight.shape[0])


def check_ids(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", examples: Iterable[Encoded]) -> None:
    """Refuse examples with token ids beyond the model's embedding, before they run through it.

    Raises:
        ModelError: naming the row, the token and the number of rows of the embedding.
    """
    rows = embedding_rows(model)
    for encoded in examples:
        largest = max(max(ids) for ids in (*(row.ids for row in encoded.rows), encoded.prompt) if ids)
        if largest >= rows:
            token = shown(tokenizer.convert_ids_to_tokens(largest))
            raise ModelError(
                f"row {encoded.example.index}: token {token!r} has id {largest}, the model's embedding has {rows} rows "
                f"(ids up to {rows - 1}); its tokenizer, of {len(tokenizer)} tokens, is of another model"
            )


def tokenizer_hash(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Name what turns texts into ids, by 16 hexadecimal digits: vocabulary, merges, normaliser, special tokens.

    What a call sets by itself, padding and truncation, is not part of it.

    Example:
        >>> from zobench.models.tiny import tiny_tokenizer
        >>> one, two = tiny_tokenizer(), tiny_tokenizer()
        >>> tokenizer_hash(one) == tokenizer_hash(two), two.add_tokens(["Lyon"])
        (True, 1)
        >>> tokenizer_hash(one) == tokenizer_hash(two)
        False
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    facts: dict[str, Any]
    if backend is not None:  # its text begins with its version, truncation and padding
        facts = {"rest": backend.to_str().partition('"added_tokens"')[2]}
    else:  # one in Python: by its class, its vocabulary and the file that it was read from
        file = getattr(tokenizer, "vocab_file", None)
        content = Path(file).read_bytes() if file and Path(file).is_file() else b""
        facts = {
            "class": type(tokenizer).__name__,
            "vocabulary": tokenizer.get_vocab(),
            "file": hashlib.sha256(content).hexdigest(),
        }
    names = ("bos_token", "eos_token", "unk_token", "sep_token", "cls_token", "mask_token")
    facts["special"] = {name: getattr(tokenizer, f"{name}_id", None) for name in names}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
