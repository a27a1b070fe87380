"""Digits hidden on large canvases: Megapixel MNIST, and needles in haystacks."""
