package parquet

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/pipelined/pipelined/sdk"
)

const (
	extension = ".parquet"
	hashBytes = 12
	// maxComponent is the longest name of a directory in bytes, maxPart that of run
	// and client key in the name of a file. File systems take 255.
	maxComponent = 200
	maxPart      = 90
)

// tableDir returns the directory of a flow's files, below root.
func tableDir(root string, origin sdk.Origin, flow string) string {
	if origin != (sdk.Origin{}) {
		root = filepath.Join(root, component(origin.Asset))
	}
	return filepath.Join(root, component(flow))
}

// fileName returns the name of a file begun at time t. Run and client key in it
// are for people; the metadata has them exactly.
func fileName(run, clientKey string, t time.Time) string {
	var parts []string
	for _, name := range []string{run, clientKey} {
		if name != "" {
			parts = append(parts, cut(safe(name), maxPart))
		}
	}
	parts = append(parts, strconv.FormatInt(t.UnixMicro(), 10))
	return strings.Join(parts, "-") + extension
}

// component makes the name of a directory out of any name, a different one for
// each. Most names are left as they are. Others have the hash of the original
// behind them; so has a name that looks as if it had one.
func component(name string) string {
	s := safe(name)
	if stem := len(s) - len(extension); stem >= 0 && strings.EqualFold(s[stem:], extension) {
		s = s[:stem] + "_" + s[stem+1:] // no directory may look like a file
	}
	if s == name && len(name) <= maxComponent && !looksHashed(name) {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	suffix := "-" + hex.EncodeToString(sum[:hashBytes])
	return cut(s, maxComponent-len(suffix)) + suffix
}

// safe replaces everything that can have a meaning in a path, and makes sure that
// the name is not that of something hidden, looks like no option, and is not left
// out by those who read whole directories.
func safe(name string) string {
	s := strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || r == '.' || r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return r
		}
		return '_'
	}, name)
	if s == "" || strings.ContainsRune("_-.", rune(s[0])) {
		s = "x" + s
	}
	return s
}

// cut returns s, or as many whole characters of it as fit into most bytes.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

// looksHashed reports whether a name ends like one that has got a hash.
func looksHashed(name string) bool {
	return regexp.MustCompile(`-[0-9a-f]{24}$`).MatchString(name)
}
