"""Answering prompts with a policy: sampling or greedy, with the backspace action or without.

`generation.generate` is what the rest calls. Under it, `episodes` lets rows act until they end and
gives their places to waiting prompts; `live_prefixes` holds the prefix of each row, which grows and
shrinks on its own; a reader runs the model over new tokens and keeps their keys and values
(`fused_reader` for the Llama family, `module_reader` for every other model); `graphed_reader`
launches its steps as CUDA graphs.
"""
