package pbfs

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxComponent is the longest component of a path in bytes. File systems take
// 255; the rest is for suffixes that users of a path add.
const maxComponent = 240

// Path returns where a backup file that is begun at time t lies:
//
//	<root>/<asset>[/<run>]/<client key>-<t in µs since the Unix epoch>
//
// As with the reference client, the run is left out if it is empty; in asset and
// run each of : / \ * ? " < > | . and each white space becomes _; and the client
// key is left as it is.
//
// It deviates where that is not safe, so that the path stays inside root and no
// component is longer than 240 bytes:
//
//   - a control character becomes _, and so does a run of bytes that are not UTF-8;
//   - in the client key / \ * ? " ' ` < > | and white space other than a plain
//     space become _ too, and a dot or dash at its start does;
//   - a component that is too long is cut.
//
// A component that deviates has "-" and 16 hexadecimal digits of a hash of the
// original name behind the name, so different ones stay different. An empty
// asset or client key is _.
//
// Two files of one key begun in the same microsecond have the same path. Create
// with O_EXCL, and try the next microsecond if the file exists.
func Path(root, asset, run, clientKey string, t time.Time) string {
	dir := filepath.Join(root, cleanName(asset))
	if run != "" {
		dir = filepath.Join(dir, cleanName(run))
	}
	stamp := "-" + strconv.FormatInt(t.UnixMicro(), 10)
	return filepath.Join(dir, cleanKey(clientKey, maxComponent-len(stamp))+stamp)
}

// cleanName makes a component of the name of an asset or run.
func cleanName(name string) string {
	deviates := false
	cleaned := strings.Map(func(r rune) rune {
		switch {
		case strings.ContainsRune(`:/\*?"<>|.`, r) || unicode.IsSpace(r):
			return '_'
		case isUnsafe(r):
			deviates = true
			return '_'
		}
		return r
	}, markInvalid(name))
	return component(name, cleaned, deviates, maxComponent)
}

// cleanKey makes the start of a file name, of at most most bytes, of a client
// key.
func cleanKey(key string, most int) string {
	cleaned := strings.Map(func(r rune) rune {
		if strings.ContainsRune("/\\*?\"'`<>|", r) || isUnsafe(r) || unicode.IsSpace(r) && r != ' ' {
			return '_'
		}
		return r
	}, markInvalid(key))
	if strings.HasPrefix(cleaned, ".") || strings.HasPrefix(cleaned, "-") {
		cleaned = "_" + cleaned[1:]
	}
	return component(key, cleaned, cleaned != key, most)
}

// markInvalid replaces bytes that are not UTF-8 by a control character, so that
// one is told from a replacement character that is really there.
func markInvalid(s string) string { return strings.ToValidUTF8(s, "\x00") }

func isUnsafe(r rune) bool { return unicode.IsControl(r) }

// component finishes a component: never empty, never longer than most bytes,
// and with a hash of the original if it deviates from the reference.
func component(original, cleaned string, deviates bool, most int) string {
	if cleaned == "" {
		return "_"
	}
	if !deviates && len(cleaned) <= most {
		return cleaned
	}
	hash := sha256.Sum256([]byte(original))
	suffix := "-" + hex.EncodeToString(hash[:8])
	return cut(cleaned, most-len(suffix)) + suffix
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
