"""The numbers of the README: each a ratio measured in one run, on one machine.

::

    python -m tests.benchmarks [--only WORD] [--json] [--readme]

    server        sends pre-built frames, in a process of its own
    contenders    who receives: bare loops, rxws, the package that rxws replaces, a Subject
    rows          what is compared with what, and what is to be reached
"""
