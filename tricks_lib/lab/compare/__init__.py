"""Which of the book's tricks help on this data: a protocol, a command and a record.

The files stand in the order in which data flow: ``data`` and ``metrics`` → ``tokens``, ``arms`` and
``classifier`` → ``comparison``, ``tricks`` and ``plan`` → ``train`` → ``protocol`` and ``run`` →
``statistics`` and ``summary`` → ``assembly``, ``records`` and ``verify`` → ``report``, ``figures`` and
``evidence``, which the book's chapters print.

The package itself can be called: ``lab.compare(data=..., model=..., tricks=[...])`` is
:func:`tricks_lib.lab.compare.ask.compare`.
"""

import sys
import types


class CallablePackage(types.ModuleType):
    """A package that is called as its main function."""

    def __call__(self, *args, **kwargs):
        from tricks_lib.lab.compare.ask import compare

        return compare(*args, **kwargs)


sys.modules[__name__].__class__ = CallablePackage
