"""Runs from their configuration to their result, one module a kind; what reads them back."""
