//go:build unix

package plugin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxLinks bounds the symbolic links of a path, as the kernel does.
const maxLinks = 40

// checkExecutable returns why a file must not be executed as a plugin.
func checkExecutable(path string) error {
	if err := checkTrusted(path); err != nil {
		return err
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("it is not a file")
	case info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0:
		return errors.New("it changes its user or group when it is executed; remove it with: chmod ug-s " + path)
	case info.Mode().Perm()&0o111 == 0:
		return errors.New("it is not executable; change it with: chmod +x " + path)
	}
	return nil
}

// checkTrusted returns how users other than root and ourselves could change or
// replace what a path leads to: each file, directory and link on the way must
// belong to one of the two and be writable for its owner only. Directories that
// only lead there may be shared if others cannot rename in them (/tmp).
func checkTrusted(path string) error {
	dir, rest, links := "/", elements(path), 0
	if err := checkOwner(dir, len(rest) == 0); err != nil {
		return err
	}
	for len(rest) > 0 {
		next := filepath.Join(dir, rest[0])
		rest = rest[1:]
		if err := checkOwner(next, len(rest) == 0); err != nil {
			return err
		}
		target, err := os.Readlink(next)
		if err != nil { // no link
			dir = next
			continue
		}
		if links++; links > maxLinks {
			return fmt.Errorf("%s has too many symbolic links", path)
		}
		if filepath.IsAbs(target) {
			dir = "/"
		}
		rest = append(elements(target), rest...)
	}
	return nil
}

// elements splits a path. Its ".." elements stay: in front of a directory that is
// reached by a link they mean the parent of the link's target.
func elements(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

func checkOwner(path string, last bool) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("the owner of %s is not known", path)
	}
	if uid := int(stat.Uid); uid != 0 && uid != os.Geteuid() {
		return fmt.Errorf("%s belongs to another user (uid %d); it must belong to root or to the user that runs pipelined", path, uid)
	}
	shared := info.IsDir() && info.Mode()&fs.ModeSticky != 0 && !last
	if info.Mode()&fs.ModeSymlink == 0 && info.Mode().Perm()&0o022 != 0 && !shared {
		return fmt.Errorf("other users may write to %s; change it with: chmod go-w %s", path, path)
	}
	return nil
}
