"""Use cases: one file per noun, one function per verb. Every face calls these and nothing below them."""
