"""Causal language models: found, built, extended, adapted; beam search over a trie; scores and plain text."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
