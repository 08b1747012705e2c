"""The stages. Each reads a manifest, writes a folder and finishes it with a manifest of its own.

First they take what they read: a folder or its manifest (`extract`: a source CSV). Their other arguments are:

- `out_dir`: gets the outputs and, last, the manifest;
- `config`: the settings;
- `reporter`: receives messages and progress;
- `overwrite`: replaces a complete run of the same stage in `out_dir`;
- `frames` of `evaluate` and `inspect_clusters`: another extraction than the one trained on.
"""
