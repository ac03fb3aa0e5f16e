"""The work of each command as one function, without arguments and printing."""
