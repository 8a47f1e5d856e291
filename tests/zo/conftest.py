"""What tests of the core share."""

import pytest
import torch


@pytest.fixture
def threads():
    """Sets the number of torch's threads; the old one comes back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
