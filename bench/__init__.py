"""Load on a running system, and what makes the tables of docs/benchmarks/."""
