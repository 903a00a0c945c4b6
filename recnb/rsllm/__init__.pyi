from .recipe import MAIN as MAIN, RSLLM as RSLLM
