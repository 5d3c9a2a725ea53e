package jsonline

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Step is a key of an object, or the index of an array's element.
type Step struct {
	Key     string
	Index   int
	Element bool // Index counts
}

// Path leads to a value.
type Path []Step

func (p Path) with(s Step) Path { return append(append(Path(nil), p...), s) }

// maxIndex bounds what a path can ask for.
const maxIndex = 1 << 20

// ParsePath reads a path: keys with dots between them, elements as [0], and keys
// with dots or brackets in them as ["a.b"].
func ParsePath(text string) (Path, error) {
	var p Path
	rest := text
	for rest != "" {
		var s Step
		var err error
		switch {
		case strings.HasPrefix(rest, `["`):
			s.Key, rest, err = quotedKey(rest)
		case rest[0] == '[':
			s, rest, err = element(rest)
		default:
			end := strings.IndexAny(rest, ".[]")
			if end < 0 {
				end = len(rest)
			}
			s.Key, rest = rest[:end], rest[end:]
			if s.Key == "" {
				err = errors.New("empty key")
			}
		}
		if err == nil && rest != "" && rest[0] != '[' {
			if rest[0] != '.' || len(rest) == 1 || rest[1] == '[' {
				err = fmt.Errorf("unexpected %q", rest)
			}
			rest = rest[1:]
		}
		if err != nil {
			return nil, fmt.Errorf("path %q: %w", text, err)
		}
		p = append(p, s)
	}
	if len(p) == 0 {
		return nil, errors.New("empty path")
	}
	if p[0].Element {
		return nil, fmt.Errorf("path %q: a line is an object; begin with a key", text)
	}
	if len(p) > maxDepth {
		return nil, fmt.Errorf("path of %d steps, the limit is %d", len(p), maxDepth)
	}
	return p, nil
}

// element reads [0].
func element(text string) (s Step, rest string, err error) {
	digits, rest, ok := strings.Cut(text[1:], "]")
	n, err := strconv.ParseUint(digits, 10, 32)
	if !ok || err != nil || n > maxIndex {
		return Step{}, "", fmt.Errorf("%q is not an element such as [0]", text)
	}
	return Step{Index: int(n), Element: true}, rest, nil
}

// quotedKey reads ["key"], where key is written as in JSON.
func quotedKey(text string) (key, rest string, err error) {
	for end := 2; end < len(text); end++ {
		switch text[end] {
		case '\\':
			end++
		case '"':
			if err := json.Unmarshal([]byte(text[1:end+1]), &key); err != nil {
				return "", "", fmt.Errorf("%s is not a JSON string", text[1:end+1])
			}
			rest, ok := strings.CutPrefix(text[end+1:], "]")
			if !ok {
				return "", "", fmt.Errorf("no ] after %s", text[1:end+1])
			}
			return key, rest, nil
		}
	}
	return "", "", fmt.Errorf("the quote of %s is not closed", text)
}

// String writes the path so that ParsePath reads it.
func (p Path) String() string {
	var out strings.Builder
	for i, s := range p {
		switch {
		case s.Element:
			fmt.Fprintf(&out, "[%d]", s.Index)
		case s.Key == "" || strings.ContainsAny(s.Key, ".[]"):
			quoted, _ := json.Marshal(s.Key)
			fmt.Fprintf(&out, "[%s]", quoted)
		default:
			if i > 0 {
				out.WriteByte('.')
			}
			out.WriteString(s.Key)
		}
	}
	return out.String()
}
