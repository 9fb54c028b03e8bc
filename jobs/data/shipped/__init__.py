"""Data sets that come with gankiln, each with its licence and the program that made it."""
