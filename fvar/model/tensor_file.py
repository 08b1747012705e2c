"""Reading a file of tensors that nobody vouches for: nothing in it runs, nothing in it inflates."""

import zipfile
from pathlib import Path
from typing import Any

import torch


def load_tensors(path: Path) -> Any:
    """Return what ``torch.save`` wrote to `path`, on the host: tensors and plain containers alone.

    Raises:
        ValueError: It is no file, or an archive that would grow when it is read.
        Exception: torch raises a dozen kinds on a damaged file.
    """
    if path.exists() and not path.is_file():
        raise ValueError("is not a file")  # reading a pipe or a device may never end
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for record in archive.infolist():
                # torch.save stores, torch.load reads anything
                if record.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(
                        f"is compressed, to {record.file_size} bytes of {record.filename}"
                    )
    return torch.load(path, map_location="cpu", weights_only=True)
