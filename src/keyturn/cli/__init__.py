"""The command line: one face of the operations, for people at a terminal and for programs that read JSON."""
