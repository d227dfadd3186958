"""Drives the scheduler and the predictor, as they are, through seeded or recorded histories.

    python -m runtime.simulation --seed 7                 # one cluster, invariants at every step
    python -m runtime.simulation --seed 7 --tables 600 --jobs 4 --vcpus 26846 --memory-tib 210
    python -m runtime.simulation --profiles FILE          # what the profile store remembers

Virtual time, no I/O but reading profiles: the same seed and arguments give the same run.
"""
