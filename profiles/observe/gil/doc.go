// Package gil reads from outside, without stopping the process, whether the
// global lock of a CPython interpreter is held.
//
// The lock is struct _gil_runtime_state of CPython's headers: the switch
// interval in microseconds, the last holder, whether it is locked, and how often
// the holder changed (Include/internal/gil.h in 3.7, pycore_gil.h from 3.8 on).
// Up to 3.11 it is part of the variable _PyRuntime; from 3.12 on each interpreter
// has its own, and that of the main interpreter still lies within _PyRuntime.
// From 3.13 on _PyRuntime says itself where (struct _Py_DebugOffsets). Before,
// it differs between builds, so that it is looked for by its pattern: one place
// alone may fit. In 3.7, and with another C library than GNU's, it is found only
// while the program has not changed the switch interval (sys.setswitchinterval).
//
// One lock is read. From 3.13 on a program with further interpreters that have
// locks of their own is refused; of 3.12, where these are rare, and where they
// come later, the number is that of the main interpreter.
//
// It needs Linux: elsewhere the package is empty.
package gil
