"""What can be looked at: images in memory, sparse ones, files that are read where one looks."""
