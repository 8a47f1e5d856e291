"""What tests of models share."""

import pytest

from zobench.models.tiny import tiny_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory, load_model):
    """A tiny OPT in Hugging Face format."""
    path = tmp_path_factory.mktemp("model")
    load_model("tiny-opt").model.save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path
