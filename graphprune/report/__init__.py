"""The report file, and what a person reads in the terminal."""
