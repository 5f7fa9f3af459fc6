//go:build !unix

package main

import "io/fs"

const noTerminal = 0

// trusted: files have no owners by number here, and berth changes nothing that
// an undo file would take back.
func trusted(fs.FileInfo) bool { return true }

func ownerOf(fs.FileInfo) string { return "an unknown user" }
