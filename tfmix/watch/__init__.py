"""Shows a trained team: records episodes, draws them, and writes them as HTML, SVG and GIF."""
