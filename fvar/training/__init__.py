"""Training a recognizer, and its predictions for the videos of a split."""
