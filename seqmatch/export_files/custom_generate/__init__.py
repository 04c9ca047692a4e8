"""The decoder that an export has beside its weights, as transformers looks for it."""
