"""MEND: gradients transformed by a trained hypernetwork."""
