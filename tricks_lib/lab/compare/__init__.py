"""Which of the book's tricks help on this data: a protocol, a command and a record.

The files stand in the order in which data flow: ``data`` and ``metrics`` → ``arms`` → ``plan`` → ``train`` →
``run`` → ``statistics`` → ``records`` → ``report``.
"""
