"""What a command does, as one function each: no printing, no arguments."""
