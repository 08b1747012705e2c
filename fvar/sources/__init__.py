"""Lists of videos: the source CSV, official splits, and the toy set."""
