"""Move4MNIST, the toy set."""
