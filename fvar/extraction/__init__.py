"""From video files to the frame store, with proof that no frame is missing. Needs no torch."""
