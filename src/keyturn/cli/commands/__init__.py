"""One file per noun, imported only when its command runs."""
