"""The command line: flags -> config -> stage -> summary. The only place with typer and rich."""
