"""Every file on disk: what data_manifests/README.md specifies."""
