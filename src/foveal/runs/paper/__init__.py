"""The rows of the paper's tables, and the report of them all."""
