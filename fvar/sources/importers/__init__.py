"""Importers of the lists that data sets publish, one file each; `fvar manifest` offers every file here.

An importer defines ``DATASETS``, a `fvar.sources.lists.Dataset` for each name that `fvar manifest` takes: a
title, the official counts and ``read(folder, split_number)``. That function returns the rows of the source
CSV. Where a list is missing or a line is wrong, it raises a SourceError that names file, line and value.
"""
