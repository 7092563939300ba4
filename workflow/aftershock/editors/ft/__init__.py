"""FT: fine-tuning of MLP output projections."""
