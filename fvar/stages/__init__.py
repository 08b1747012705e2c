"""The four stages. Each reads a manifest, writes a folder and finishes it with a manifest of its own."""
