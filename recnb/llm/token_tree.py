"""What everything that goes on behind a prompt in several ways reads with: beams, answers, continuations.

The branches of a prompt share its keys and values. Their tokens are appended to the same cache; a mask lets each token
see the prompt and its own ancestors, nothing else. The cache is never repeated per branch and never reordered. What all
prompts begin with (the instruction) is read once, and its keys and values serve every batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache

from recnb.errors import RecnbError
from recnb.llm.backbone import device_of, inference

SHORTEST_SHARED = 4  # tokens: a shorter common beginning is not worth the detour


@dataclass(frozen=True)
class SharedPrefix:
    """The tokens that all prompts begin with, read once.

    Attributes:
        ids: (P,) token ids.
        layers: keys and values of each layer, (1, heads, P, d_head).
    """

    ids: np.ndarray
    layers: tuple[tuple[Tensor, Tensor], ...]

    def rest_of(self, prompts: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The prompts without their common beginning."""
        known = len(self.ids)
        if not all(len(prompt) > known and np.array_equal(prompt[:known], self.ids) for prompt in prompts):
            raise RecnbError(f"shared prefix: expected prompts that begin with its {known} tokens and go on")
        return [prompt[known:] for prompt in prompts]


def read_shared(model: nn.Module, prompts: Sequence[np.ndarray], least: int = SHORTEST_SHARED) -> SharedPrefix | None:
    """Read what all prompts begin with; None if that is fewer than ``least`` tokens, or the whole of a prompt."""
    first = prompts[0]
    length = min(map(len, prompts)) - 1
    for prompt in prompts:
        differs = np.flatnonzero(prompt[:length] != first[:length])
        length = int(differs[0]) if len(differs) else length
        if length < least:
            return None
    with inference(model) as causal:
        cache = DynamicCache()  # without a config every layer keeps everything, as in the tree
        ids = torch.from_numpy(np.asarray(first[:length], np.int64))[None].to(device_of(causal))
        causal.base_model(input_ids=ids, past_key_values=cache, use_cache=True)
        return SharedPrefix(first[:length], tuple((layer.keys, layer.values) for layer in cache.layers))


class TokenTree:
    """The prompts (B, S), padded on the left and without what they share, and behind each the tokens of its w branches.

    Branches are the beams of a search, or forks that go on behind a part of their prompt, up to ``cuts`` (B, w) tokens,
    those shared among them.

    Attributes:
        prompt_state: (B, 1, d) hidden state at each prompt's last token.
        visible: (B, w, S') bool: which cache entries each branch may see: its prompt up to its cut, and its own tokens.
        key_positions: (B, S') position of each cache entry in its own sequence.
        next_position: (B, w) position of each branch's next token.

    Raises:
        RecnbError: the model's attention takes no mask of that kind.
    """

    def __init__(
        self, causal: Any, ids: Tensor, mask: Tensor, shared: SharedPrefix | None = None, cuts: Tensor | None = None
    ) -> None:
        self.backbone = causal.base_model
        self.config = causal.config.get_text_config(decoder=True)
        self.dtype = next(causal.parameters()).dtype
        _check_attention(self.config)
        # without a config every layer keeps everything: a sliding layer would drop what a sibling beam still needs
        self.cache = DynamicCache()
        self.batch = len(ids)
        known = 0 if shared is None else len(shared.ids)
        positions = known + (mask.cumsum(1) - 1).clamp(min=0)
        self.visible = F.pad(mask.bool(), (known, 0), value=True)[:, None]  # (B, 1, P + S)
        self.key_positions = torch.cat([torch.arange(known, device=ids.device).expand(len(ids), -1), positions], dim=1)
        for number, (keys, values) in enumerate(() if shared is None else shared.layers):
            self.cache.update(keys.expand(len(ids), -1, -1, -1), values.expand(len(ids), -1, -1, -1), number)
        prefill_mask = None  # where it can be left out, attention is faster
        if shared is not None or not bool(mask.all()):
            until_here = torch.ones(ids.shape[1], self.visible.shape[-1], device=ids.device).tril(known)
            itself = until_here.triu(known).bool()  # padding, too: a row that sees nothing may become NaN, and spread
            prefill_mask = self._masks(self.visible & until_here.bool() | itself, positions)
        self.prompt_state = self._run(ids, positions, prefill_mask)[:, -1:]
        self.next_position = known + mask.sum(1, keepdim=True) if cuts is None else cuts
        if cuts is not None:
            self.visible = self.visible & (self.key_positions[:, None] < cuts[..., None])

    def read(self, steps: list[Tensor]) -> list[Tensor]:
        """Read c tokens per branch, given as c steps (B, w), in one pass; returns the c states (B, w, d) after each."""
        if not steps:
            return []
        tokens = torch.stack(steps, dim=-1)
        return list(self.read_on(tokens, torch.ones_like(tokens, dtype=torch.bool)).unbind(2))

    def read_on(self, tokens: Tensor, real: Tensor) -> Tensor:
        """Read c tokens per branch (B, w, c), padding on the left not ``real``; returns all states (B, w, c, d)."""
        return self.read_branches(tokens, real.cumsum(-1) - 1, chain(real))

    def read_branches(self, tokens: Tensor, depths: Tensor, own: Tensor) -> Tensor:
        """Read c tokens per branch in one pass, in any shape; what comes next descends from the last of them.

        Args:
            tokens: (B, w, c) token ids; depths: (B, w, c) how many places behind the branch each stands.
            own: (B, w, c, c) bool: which tokens of its branch each sees, itself at least; what lay before it sees
                anyway.

        Returns:
            (B, w, c, d) states.
        """
        batch, branches, length = tokens.shape
        positions = self.next_position[..., None] + depths
        self.next_position, positions = positions[..., -1] + 1, positions.flatten(1)  # (B, w), (B, w * c)
        self.key_positions = torch.cat([self.key_positions, positions], dim=1)
        apart = torch.eye(branches, dtype=torch.bool, device=tokens.device)[:, None, :, None]
        within = (own[:, :, :, None] & apart).view(batch, branches * length, -1)
        seen = torch.cat([self.visible.repeat_interleave(length, dim=1), within], dim=-1)  # (B, w * c, S')
        self.visible = seen.view(batch, branches, length, -1)[:, :, -1]
        hidden = self._run(tokens.flatten(1), positions, self._masks(seen, positions))
        return hidden.view(batch, branches, length, -1)

    def follow(self, parents: Tensor) -> None:
        """Go on with the branches (B, w') in these columns; one that stands there twice goes two ways."""
        columns = parents[..., None].expand(-1, -1, self.visible.shape[-1])
        self.visible, self.next_position = self.visible.gather(1, columns), self.next_position.gather(1, parents)

    def keep(self, rows: Tensor) -> None:
        """Go on with these prompts alone."""
        self.cache.batch_select_indices(rows)
        self.batch = len(rows)
        self.visible, self.key_positions = self.visible[rows], self.key_positions[rows]
        self.next_position = self.next_position[rows]

    def _masks(self, seen: Tensor, positions: Tensor) -> Tensor | dict[str, Tensor]:
        """4D additive masks; one per kind of layer where a model mixes full and sliding attention (Gemma 3)."""
        window = getattr(self.config, "sliding_window", None)
        kinds = set(getattr(self.config, "layer_types", None) or [])
        near = seen
        if window is not None:
            near = seen & (positions[:, :, None] - self.key_positions[:, None] < window)
        if "sliding_attention" in kinds:
            masks = {"full_attention": seen, "sliding_attention": near}
            return {kind: self._additive(masks[kind]) for kind in kinds}
        # Mistral and Phi 3 slide everywhere and name no kinds; a kind "full" with a window means it is switched off
        return self._additive(seen if kinds else near)

    def _additive(self, seen: Tensor) -> Tensor:
        blocked = torch.zeros(seen.shape, dtype=self.dtype, device=seen.device)
        return blocked.masked_fill_(~seen, torch.finfo(self.dtype).min)[:, None]  # (B, 1, w * c, S')

    def _run(self, ids: Tensor, positions: Tensor, mask: Tensor | dict[str, Tensor] | None) -> Tensor:
        named = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "past_key_values": self.cache}
        return self.backbone(**named, use_cache=True, return_dict=True).last_hidden_state


def chain(real: Tensor) -> Tensor:
    """(..., c, c) bool: what each of c tokens in a row sees: those up to itself that are ``real`` (..., c), and itself.

    Padding, too, sees itself: a row that sees nothing may become NaN, and spread.
    """
    here = torch.ones(real.shape[-1], real.shape[-1], dtype=torch.bool, device=real.device)
    return here.tril() & real[..., None, :] | here.tril().triu()


def _check_attention(config: Any) -> None:
    """Beams as a tree need an attention that takes any mask; refuse others before work starts."""
    kinds = set(getattr(config, "layer_types", None) or []) - {"full_attention", "sliding_attention"}
    if kinds:
        raise RecnbError(f"beam search over a shared cache: layers of kind {sorted(kinds)} take no tree mask")
    if config._attn_implementation not in ("sdpa", "eager"):
        raise RecnbError(
            f"beam search over a shared cache needs attn_implementation 'sdpa' or 'eager', found "
            f"'{config._attn_implementation}': call model.set_attn_implementation('sdpa') first"
        )
