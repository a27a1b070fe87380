"""Files that survive: atomic writes, model directories, the Hub, cards."""
