"""Calls side by side, on any backend of joblib: loky on one machine, Dask or Ray on a cluster."""


def finished(calls: list, jobs: int):
    """What each of the calls (of ``joblib.delayed``) gives, as soon as it is there, in any order."""
    import joblib

    try:
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
    # Ray's backend gives lists only: as many calls at a time as there are jobs, so that no more can be lost
    except ValueError:
        rounds = (calls[i : i + jobs] for i in range(0, len(calls), jobs))
        yield from (result for some in rounds for result in joblib.Parallel(n_jobs=jobs)(some))
    else:
        yield from parallel(calls)
