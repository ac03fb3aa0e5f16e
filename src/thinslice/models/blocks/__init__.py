"""Building blocks that several networks share, each because it is the same block in all of them."""
