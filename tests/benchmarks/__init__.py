"""The numbers in tests/README.rst: ratios, each measured in one run on one machine.

::

    python -m tests.benchmarks [--only NAME] [--json] [--readme]
    python -m tests.benchmarks --compare ../rxws-of-yesterday

    frames        the messages, and the order with which a client requests them
    server        sends pre-built frames, in its own process
    contenders    processor time per message of each receiver: bare loops, rxws, a Subject, the package before rxws
    figures       all other costs: memory, waits, latency, fan-out
    rows          the rows of the table: two contenders and a target each
    cost          measures one cost in its own process, with the rxws of any checkout
    compare       two checkouts of rxws, row by row

Processor time per message is steady within about 5 % on a machine where messages per second vary fourfold.
"""
