"""The interactive page: draw a digit and watch the gaze, look at one's own image, play Catch.

Each tab is a module of pure functions. `foveal.app.layout` and `foveal.app.server` alone import
Gradio, the extra ``foveal[app]``.
"""

import os

# Nothing is sent to anyone: read when Gradio, and what it loads, are imported.
os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
