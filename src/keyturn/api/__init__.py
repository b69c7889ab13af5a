"""The HTTP face for programs. Reaches the product through operations and bootstrap only; imported when serving."""
