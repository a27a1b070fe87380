"""What a model did, shown: sheets, films, an HTML page, maps."""
