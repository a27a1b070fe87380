"""One's own images as a task."""
