"""The clusters of inspected videos: the record, the files, and what an interrupted inspection keeps."""
