"""Shards made as tasks of a Dask cluster."""
