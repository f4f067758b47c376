"""``make demo``: a tour, with everything going wrong, that ends with every host agreeing, or says what does not.

It saves a folder's files through three storages, kills a media host, hangs a storage node of MogileFS, goes on
saving, overwriting and deleting, kills the worker in the middle of a transfer, kills MogileFS, starts everything
again, kills MogileFS once more, waits, and then asks every host and MogileFS for every file.
"""
