"""Qualcomm QNN's C API through ctypes: structures, function table, handles.  Nothing here knows graphs of the core."""
