"""The page of inspected videos, with what it shows of each."""
