"""From the frame store to batches of clips on the device. Knows no network."""
