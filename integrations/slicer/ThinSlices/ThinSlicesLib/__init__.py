"""The part of the module that needs no Slicer: the command line of thinslice as a process."""
