"""The one theme object: system fonts, one accent colour, quiet surfaces, light and dark."""

from pathlib import Path

import gradio as gr
from gradio.themes.utils import colors, sizes

ACCENT = colors.Color(
    name="seqmatch",
    c50="#eef6fb",
    c100="#d6eaf6",
    c200="#add5ed",
    c300="#7abbe0",
    c400="#4fa8de",
    c500="#1f86c4",
    c600="#0072b2",
    c700="#005f95",
    c800="#064c76",
    c900="#0a3d5e",
    c950="#06283f",
)
CSS = Path(__file__).with_name("style.css")
_SANS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"]


def theme() -> gr.themes.Base:
    """Returns the theme. Its fonts are names alone, so that a page asks no other host for any."""
    base = gr.themes.Base(
        primary_hue=ACCENT,
        secondary_hue=ACCENT,
        neutral_hue=colors.gray,
        spacing_size=sizes.spacing_md,
        radius_size=sizes.radius_sm,
        text_size=sizes.text_md,
        font=_SANS,
        font_mono=_MONO,
    )
    return base.set(
        body_background_fill="#ffffff",
        body_background_fill_dark="#14171d",
        block_background_fill="#ffffff",
        block_background_fill_dark="#1a1e26",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#1a1e26",
        background_fill_secondary="#f7f8fa",
        background_fill_secondary_dark="#20252f",
        border_color_primary="#dfe3e8",
        border_color_primary_dark="#343b48",
        block_border_width="1px",
        block_shadow="none",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        body_text_color="#1f2937",
        body_text_color_dark="#e5e7eb",
        body_text_color_subdued="#566070",
        body_text_color_subdued_dark="#a3adbb",
        block_info_text_color="#566070",
        block_info_text_color_dark="#a3adbb",
        link_text_color="#005f95",
        link_text_color_dark="#7abbe0",
        link_text_color_hover="#064c76",
        link_text_color_hover_dark="#add5ed",
        link_text_color_visited="#005f95",
        link_text_color_visited_dark="#7abbe0",
        button_primary_background_fill="#0072b2",
        button_primary_background_fill_dark="#0072b2",
        button_primary_background_fill_hover="#005f95",
        button_primary_background_fill_hover_dark="#1f86c4",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_dark="#20252f",
        button_secondary_background_fill_hover="#f0f3f6",
        button_secondary_background_fill_hover_dark="#2a303c",
        button_secondary_border_color="#c6ccd4",
        button_secondary_border_color_dark="#454d5c",
        button_border_width="1px",
        input_background_fill="#ffffff",
        input_background_fill_dark="#14171d",
        input_border_width="1px",
        input_border_color="#c6ccd4",
        input_border_color_dark="#454d5c",
        input_border_color_focus="#0072b2",
        input_border_color_focus_dark="#4fa8de",
    )
