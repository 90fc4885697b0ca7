"""The numbers of the README: each a ratio measured in one run, on one machine.

::

    python -m tests.benchmarks [--only NAME] [--json] [--readme]
    python -m tests.benchmarks --compare ../rxws-of-yesterday

    frames        the messages, and the order that asks the server for them
    server        sends pre-built frames, in a process of its own
    contenders    processor time per message of each receiver: bare loops, rxws, a Subject, the package rxws replaces
    figures       all other costs: memory, waits, latency, fan-out
    rows          what is compared with what, and which ratio is to be reached
    cost          one cost in a process of its own, with the rxws of any checkout
    compare       two checkouts of rxws, row by row

Processor time per message is steady within about 5 % on a machine where messages per second vary fourfold.
"""
