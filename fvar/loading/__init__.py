"""From video files to batches of frames on the device. Knows no network."""
