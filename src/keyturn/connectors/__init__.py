"""What is particular to each system: one folder each, strangers to one another."""
