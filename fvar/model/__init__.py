"""The method as functions of tensors, and the networks it runs in. Knows no file and no video."""
