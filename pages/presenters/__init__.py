"""From rows of the store to what is shown: pure functions, no Gradio."""
