"""Published settings of trainings, one TOML file each."""
