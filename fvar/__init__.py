"""Full-video action recognition: every frame of a video, clustered in time by what the classifier sees.

The method is in ``fvar.model``. A network is cut after a residual stage. Its first part, the stem, sees every
frame. Consecutive frames that look similar to the stem become one cluster. The second part, the trunk, sees
the mean of each cluster. ``fvar.model.clustering`` has the mathematics, ``fvar.model.engine`` computes it in
constant memory.

Four stages in ``fvar.stages`` apply it, each of which reads the manifest that the one before wrote:

1. ``extract``: a source CSV and its videos -> every frame as JPEG in HDF5 shards.
2. ``train``: the frames -> a trained network, as checkpoints.
3. ``evaluate``: the network and other videos -> predictions and accuracy.
4. ``inspect_clusters``: the network and videos -> which frames were averaged, as tables, pictures and a page.

A stage is a function ``stage(manifest, out_dir, config, reporter) -> manifest``. Stages share only files.
``fvar.sources`` makes source CSVs, and ``fvar.stages.verify`` checks a folder that any stage wrote.
"""

__version__ = "0.1.0"
