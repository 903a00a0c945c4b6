"""Eight bits: the same product before rounding, fewer mistakes after it, and a network left as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recnb.embeddings import int8


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 4))


def inputs() -> torch.Tensor:
    """(200, 16) with one column twenty times as large as the others, as transformers have them."""
    x = torch.randn(200, 16, generator=torch.Generator().manual_seed(1))
    x[:, 3] *= 20
    return x


def error(small: nn.Module, exact: nn.Module) -> float:
    x = inputs()
    return float((small(x) - exact(x)).norm() / exact(x).norm())


@torch.no_grad()
def test_dividing_columns_and_multiplying_weights_is_the_same_product() -> None:
    exact, evened = network()[0], network()[0]
    x = inputs()
    divisor = int8._even_columns(evened, x.abs().amax(0))
    torch.testing.assert_close(evened(x / divisor), exact(x))
    assert (x / divisor).abs().amax(0).std() < x.abs().amax(0).std() / 5


@torch.no_grad()
def test_even_columns_lose_less_to_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = network()
    even = error(int8.in_int8(exact, lambda shown: shown(inputs())), exact)
    monkeypatch.setattr(int8, "_even_columns", lambda layer, largest: torch.ones_like(largest))
    plain = error(int8.in_int8(exact, lambda shown: shown(inputs())), exact)
    assert 0 < even < 0.7 * plain < 0.1


def test_the_network_itself_stays_as_it_was_and_an_unused_layer_is_no_trouble() -> None:
    exact, again = network(), network()
    exact.add_module("unused", nn.Linear(4, 4))
    small = int8.in_int8(exact, lambda shown: nn.Sequential(*list(shown)[:3])(inputs()))
    assert not any(isinstance(layer, nn.Linear) for layer in small)
    for a, b in zip(list(exact)[:3], again, strict=True):
        assert not a._forward_pre_hooks
        if isinstance(a, nn.Linear) and isinstance(b, nn.Linear):
            assert torch.equal(a.weight, b.weight)
