"""Digits on canvases: the tasks of the paper."""
