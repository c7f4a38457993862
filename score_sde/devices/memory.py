"""Memory that has been freed, handed back to the operating system."""

import ctypes
import gc
import sys


def release() -> None:
    """Hand back what the C library keeps of freed memory; nothing where it is not glibc.

    XLA's compiler frees hundreds of MB which glibc keeps for more small objects, and large arrays do not fit into its
    holes: unreturned, they add to the peak of whatever runs next.
    """
    gc.collect()
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
