"""Single parts of fe, called in the process that measures them: what a lease costs, a hand-over, a head, a look-up.

Each module is both: a pyperf script (`python -m bench.micro.lease_table --help`), which pyperf runs in processes of its
own, and `measure`, which has the script run once a round and reads what pyperf wrote. Read perf.py first.
"""
