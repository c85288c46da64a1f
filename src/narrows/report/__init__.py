"""Plan records → one self-contained interactive page, and figures as PNG and SVG."""
