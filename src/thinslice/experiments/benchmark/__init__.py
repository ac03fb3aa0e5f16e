"""Benchmark: a suite of methods on a data set, its tables and report, and the leaderboard."""
