// Package python makes Python interpreters do work, to see what their global
// interpreter lock (GIL) lets threads, processes and tasks have of a machine.
//
//   - [Find] and [Open] look for interpreters;
//   - [Start] runs our own Python program in one, which does nothing until asked;
//   - [Session.Trial] measures once how much of a [Work] some workers do; to
//     repeat, to compare and to judge is the caller's;
//   - the other methods of [Session] look at one claim each.
//
// The Python program uses the standard library only. It is passed through a
// pipe, so that nothing is written to a disk.
//
// It needs Linux: elsewhere the package is empty.
package python
