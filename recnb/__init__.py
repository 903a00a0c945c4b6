"""recnb: learn, run and judge LLM-based generative recommendation, one notebook per step."""

__version__ = "0.1.0"
