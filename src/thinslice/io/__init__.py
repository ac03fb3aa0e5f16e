"""Files in and out: the only room that knows formats. Never imports torch."""
