"""A network's linear layers in 8 bits, for CPUs: weights once, per output; activations as they come, per pass.

Eight bits are shared by all columns of a layer's input, and in a transformer a few columns are twenty times as large as
the rest, which then has little left. As in SmoothQuant (arXiv 2211.10438) each column is divided by a number that its
weights are multiplied by: the product is the same, and the columns are alike. Used by :mod:`recnb.embeddings.text`.
"""

import copy
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from recnb.errors import ResourceError

MIGRATION = 0.75  # how much of a column's size goes into its weights: 0 none, 1 all


def in_int8(network: nn.Module, show: Callable[[nn.Module], Any]) -> nn.Module:
    """A copy of a network that computes its linear layers in 8 bits.

    Args:
        network: float32, on a CPU; left as it is.
        show: runs the network it is given on typical input, so that the size of each column is seen.

    Raises:
        ResourceError: this torch has no dynamic quantisation.
    """
    network = copy.deepcopy(network)
    largest = _largest_inputs(network, show)
    divisors = {name: _even_columns(network.get_submodule(name), seen) for name, seen in largest.items()}
    _quantise(network)
    for name, divisor in divisors.items():
        network.get_submodule(name).register_forward_pre_hook(partial(_scale, 1 / divisor))
    return network


def _largest_inputs(network: nn.Module, show: Callable[[nn.Module], Any]) -> dict[str, Tensor]:
    """Name of each linear layer that is used -> (in,) largest absolute value of each input column."""
    largest: dict[str, Tensor] = {}

    def watch(name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen = inputs[0].detach().abs().flatten(0, -2).amax(0)
        largest[name] = torch.maximum(largest.get(name, seen), seen)

    linear = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    hooks = [layer.register_forward_pre_hook(partial(watch, name)) for name, layer in linear]
    show(network)
    for hook in hooks:
        hook.remove()
    return largest


def _scale(factor: Tensor, layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Before a layer: its input, column by column, times a factor."""
    return (inputs[0] * factor, *inputs[1:])


@torch.no_grad()
def _even_columns(layer: nn.Module, largest: Tensor) -> Tensor:
    """Multiply the layer's columns of weights, and return what its input must be divided by: (in,)."""
    weight: Any = layer.weight
    own = weight.abs().amax(0).clamp(min=1e-5)
    divisor = largest.clamp(min=1e-4) ** MIGRATION / own ** (1 - MIGRATION)
    weight *= divisor
    return divisor


def _quantise(network: nn.Module) -> None:
    try:
        from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic
    except ImportError as error:
        raise ResourceError(f"int8: torch {torch.__version__} has no dynamic quantisation; expected float32") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this part of torch will move
        quantize_dynamic(network, {nn.Linear: per_channel_dynamic_qconfig}, inplace=True)
