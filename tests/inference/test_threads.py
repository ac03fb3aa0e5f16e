"""Threads on the CPU: as many as the cores allow, and never more than torch had."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from thinslice.errors import UsageError
from thinslice.inference import threads


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(threads, "sensible_threads", lambda: 4)
    now = torch.get_num_threads()
    yield
    torch.set_num_threads(now)


def test_torch_never_gets_more_than_it_had_unless_told() -> None:
    torch.set_num_threads(2)
    assert threads.set_threads(None) == torch.get_num_threads() == 2
    torch.set_num_threads(7)
    assert threads.set_threads(None) == torch.get_num_threads() == 4
    assert threads.set_threads(5) == torch.get_num_threads() == 5


def test_no_threads_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        threads.set_threads(0)
