"""Cluster: cells on the workers of a Dask cluster.

`dask_executor` runs in the process that asks, `worker` in Dask's workers; between them travel only what stands in
`message` and the files of `parcel`.
"""
