"""One module for each part of the site; its routes read from top to bottom as they are walked through."""
