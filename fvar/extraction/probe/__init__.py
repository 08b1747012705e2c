"""What a video file claims about itself, read in another process."""
