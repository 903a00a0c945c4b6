"""Two decoders of a few thousand weights whose answers differ clearly: a Llama, and a Gemma with a short window."""

from __future__ import annotations

import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

V = 48


def built(kind, config):
    torch.manual_seed(0)
    model = kind(config)
    for parameter in model.parameters():  # larger than the default start, so that scores differ clearly
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.25)
    return model.eval()


def llama():
    config = LlamaConfig(
        vocab_size=V, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128,
    )  # fmt: skip
    return built(LlamaForCausalLM, config)


def gemma():
    config = Gemma3TextConfig(
        vocab_size=V, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=128, sliding_window=6,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    )  # fmt: skip
    return built(Gemma3ForCausalLM, config)


MODELS = {"llama": llama, "gemma": gemma}
