"""What the GPUs of this machine do, from the NVIDIA management library, without torch and without a subprocess.

The fallback for machines without DCGM: a worker reads it when its metrics are asked for.
"""

import ctypes
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """One GPU now. `used_ratio` is the share of the last second in which it was busy."""

    index: int
    name: str
    used_ratio: float
    memory_used_bytes: int
    memory_total_bytes: int


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class NvidiaLibrary:
    """NVML, loaded if it is there. Every method answers emptily where it is not."""

    def __init__(self, name: str = "libnvidia-ml.so.1") -> None:
        self._library: ctypes.CDLL | None = None
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL(name)
            if library.nvmlInit_v2() == 0:
                self._library = library

    @property
    def available(self) -> bool:
        return self._library is not None

    def driver_version(self) -> str:
        """The version of the driver, or nothing."""
        text = ctypes.create_string_buffer(96)
        if self._library is None or self._library.nvmlSystemGetDriverVersion(text, ctypes.c_uint(96)) != 0:
            return ""
        return text.value.decode(errors="replace")

    def cuda_version(self) -> str:
        """The CUDA version of the driver, as 13.0, or nothing."""
        version = ctypes.c_int()
        if self._library is None or self._library.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(version)) != 0:
            return ""
        return f"{version.value // 1000}.{version.value % 1000 // 10}"

    def gpus(self) -> list[Gpu]:
        """Every GPU that answers."""
        count = ctypes.c_uint()
        if self._library is None or self._library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return []
        return [gpu for index in range(count.value) if (gpu := self._read(self._library, index))]

    def _read(self, library: ctypes.CDLL, index: int) -> Gpu | None:
        handle, memory, used = ctypes.c_void_p(), _Memory(), _Utilization()
        name = ctypes.create_string_buffer(96)
        if library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)) != 0:
            return None
        if library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) != 0:
            return None
        library.nvmlDeviceGetName(handle, name, ctypes.c_uint(96))
        library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(used))  # not offered by every GPU: stays 0
        return Gpu(index, name.value.decode(errors="replace"), used.gpu / 100, memory.used, memory.total)
