"""Full-video action recognition: every frame of a video, clustered in time by what the classifier sees.

The pipeline, each stage reading the manifest that the one before wrote:

1. ``fvar.stages.extract``: videos of a source CSV -> every frame as JPEG in HDF5 shards.
2. ``fvar.stages.train``: frames -> stem -> clusters of alike neighbours -> their means -> trunk.
3. ``fvar.stages.evaluate``: the same clustering on unseen videos -> predictions and accuracy.
4. ``fvar.stages.inspect_clusters``: which frames were averaged, as tables, pictures and a page.

A stage is ``stage(manifest, out_dir, config, reporter) -> manifest``; files on disk join them.
The method is ``fvar.model.clustering`` (the mathematics) and ``fvar.model.engine`` (in constant memory).
"""

__version__ = "0.1.0"
