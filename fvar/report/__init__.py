"""What a run looks like: pictures, plots and pages."""
