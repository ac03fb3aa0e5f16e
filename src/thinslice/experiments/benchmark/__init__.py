"""A suite of methods on a data set: run, scored, compared, reported; and the leaderboard of its results."""
