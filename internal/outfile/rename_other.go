//go:build !linux

package outfile

// renameExclusive gives a file another name, unless that is taken.
func renameExclusive(from, to string) error { return linkExclusive(from, to) }
