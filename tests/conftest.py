"""What every test starts from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

# It has no examples, and as a module its name would be that of the other folders' conftest.
collect_ignore = ["conftest.py"]

torch.set_warn_always(True)  # a warning that comes once would fail whichever test is first


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread, on which trainings repeat, and the random state of before."""
    before, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    torch.set_rng_state(state)
