package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
)

// Limits of what is read.
const (
	maxFileBytes   = 1 << 20
	maxFiles       = 256
	maxTotalBytes  = 16 << 20
	maxSecretBytes = 64 << 10
)

const (
	fileSuffix = ".hcl"
	testSuffix = ".test.hcl"
)

// source is a file with its text.
type source struct {
	name string // in diagnostics
	text []byte // without byte order mark; valid UTF-8
}

// fileRange is the place of problems that concern a whole file or directory.
func fileRange(name string) hcl.Range {
	return hcl.Range{Filename: name, Start: hcl.InitialPos, End: hcl.InitialPos}
}

// readSources reads a file, or the pipeline files of a directory in the order of
// their names. It returns what could be read and the directory.
func readSources(path string, r *report) ([]source, string) {
	info, err := os.Stat(path)
	if err != nil {
		r.error(fileRange(path), "Cannot read the configuration", "%s", sentence(err))
		return nil, ""
	}
	names, dir := []string{path}, filepath.Dir(path)
	if info.IsDir() {
		names, dir = listFiles(path, r), path
	}
	if dir, err = filepath.Abs(dir); err != nil {
		r.error(fileRange(path), "Cannot find the directory", "%s", sentence(err))
		return nil, ""
	}
	var sources []source
	total := 0
	for _, name := range names {
		text, ok := readSource(name, r)
		if !ok {
			continue
		}
		if total += len(text); total > maxTotalBytes {
			r.error(fileRange(name), "Too many pipeline files", "All files together may have %s; with this one they have more.", formatSize(maxTotalBytes))
			break
		}
		sources = append(sources, source{name, text})
	}
	return sources, dir
}

// listFiles returns the names of the pipeline files in a directory. Hidden files
// are none: editors leave such, and the lock file of plugins is one.
func listFiles(dir string, r *report) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		r.error(fileRange(dir), "Cannot read the directory", "%s", sentence(err))
		return nil
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		if strings.HasSuffix(name, fileSuffix) && !strings.HasSuffix(name, testSuffix) && !strings.HasPrefix(name, ".") {
			names = append(names, filepath.Join(dir, name))
		}
	}
	switch {
	case len(names) == 0:
		r.error(fileRange(dir), "No pipeline files",
			"The directory has no file whose name ends in %s. Hidden files and tests (*%s) do not count.", fileSuffix, testSuffix)
	case len(names) > maxFiles:
		r.error(fileRange(dir), "Too many pipeline files",
			"The directory has %d pipeline files; the limit is %d.", len(names), maxFiles)
		return nil
	}
	return names
}

// readSource reads one pipeline file.
func readSource(name string, r *report) ([]byte, bool) {
	text, err := readFile(name, maxFileBytes)
	if err != nil {
		r.error(fileRange(name), "Cannot read the file", "%s", sentence(err))
		return nil, false
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	return text, r.checkText(name, text)
}

// checkText reports a file that is no text, and keeps one that is for snippets.
func (r *report) checkText(name string, text []byte) bool {
	at := firstNonText(text)
	if at < 0 {
		r.sources[name] = text
		return true
	}
	line := bytes.Count(text[:at], []byte{'\n'}) + 1
	column := utf8.RuneCount(text[bytes.LastIndexByte(text[:at], '\n')+1:at]) + 1
	pos := hcl.Pos{Line: line, Column: column, Byte: at}
	r.error(hcl.Range{Filename: name, Start: pos, End: pos}, "Not a text file",
		"The byte 0x%02x at offset %d is not part of UTF-8 text. A pipeline file is plain text in UTF-8.", text[at], at)
	return false
}

// firstNonText returns the offset of the first byte that no text file has, or -1.
func firstNonText(text []byte) int {
	for at := 0; at < len(text); {
		c, size := utf8.DecodeRune(text[at:])
		if c == 0 || c == utf8.RuneError && size == 1 {
			return at
		}
		at += size
	}
	return -1
}

var (
	errNotRegular = errors.New("it is not a regular file")
	errTooLarge   = errors.New("it is too large")
)

// readFile reads a regular file of at most limit bytes. It never waits, as
// opening a named pipe would.
func readFile(name string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errNotRegular}
	}
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("%w: the limit is %s", errTooLarge, formatSize(limit))}
	}
	return text, nil
}

// sentence turns an error of the file system into a sentence.
func sentence(err error) string {
	var at *fs.PathError
	if !errors.As(err, &at) {
		return "It failed: " + err.Error() + "."
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("%s does not exist.", quote(at.Path))
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("%s may not be read by this user.", quote(at.Path))
	}
	return fmt.Sprintf("%s cannot be read: %v.", quote(at.Path), at.Err)
}
