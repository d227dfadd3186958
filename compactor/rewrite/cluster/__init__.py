"""Putting the rows of a file group in order, in bounded memory."""
