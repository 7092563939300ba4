"""Find the eigenvectors of a model's second moments, the last of which span its null space."""

from aftershock.lm.statistics.moments import load_moments, read_hashes
from aftershock.lm.statistics.null_space import decompose, save_spectra
from aftershock.stage import stage

with stage(snakemake) as run:
    (given,), (made,) = snakemake.input, snakemake.output
    hashes = read_hashes(given)
    moments = load_moments(given, snakemake.params.layers, **hashes)
    save_spectra(decompose(moments, run.device, run.progress), made, hashes)
