"""Measures a talking face on the video that a viewer gets. See `python -m tools.eval --help`."""
