package parquet

import (
	"strconv"
	"unicode/utf8"

	"github.com/pipelined/pipelined/sdk"
)

// maxEnumCache bounds the texts that are kept for keys without a name.
const maxEnumCache = 4096

// enumText turns the keys of an enum channel into text: the name if there is
// exactly one with that name, and it cannot be taken for a number; else the key in
// decimal digits. So different keys always have different texts.
type enumText struct {
	texts map[uint32][]byte
	named int
}

func newEnumText(values []sdk.EnumValue) *enumText {
	keys := map[string]map[uint32]struct{}{}
	for _, v := range values {
		if keys[v.Name] == nil {
			keys[v.Name] = map[uint32]struct{}{}
		}
		keys[v.Name][v.Key] = struct{}{}
	}
	e := &enumText{texts: map[uint32][]byte{}}
	for _, v := range values {
		_, taken := e.texts[v.Key]
		if !taken && len(keys[v.Name]) == 1 && !isNumber(v.Name) && utf8.ValidString(v.Name) {
			e.texts[v.Key] = []byte(v.Name)
		}
	}
	e.named = len(e.texts)
	return e
}

func isNumber(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

func (e *enumText) of(key uint32) []byte {
	if text, ok := e.texts[key]; ok {
		return text
	}
	text := strconv.AppendUint(nil, uint64(key), 10)
	if len(e.texts)-e.named < maxEnumCache {
		e.texts[key] = text
	}
	return text
}
