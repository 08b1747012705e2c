"""A trained recognizer applied to any video: decoded as in extraction, answered with labels and times."""
