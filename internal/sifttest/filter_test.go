package sifttest

import (
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestFilter(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       filter
	}{
		{"empty", "", nil},
		{"blank", "  ", nil},
		{"as Rust clients write it", `client_key == 'a b'`, filter{{"client_key", []string{"a b"}}}},
		{"as Python clients write it", `client_key=="k"`, filter{{"client_key", []string{"k"}}}},
		{"list without blanks", `name in ['a','b']`, filter{{"name", []string{"a", "b"}}}},
		{"empty list", `name in []`, filter{{"name", nil}}},
		{"joined", `name == 'a' && client_key=='b'`, filter{{"name", []string{"a"}}, {"client_key", []string{"b"}}}},
		{"escapes", `name == 'a\'b\\c\n"'`, filter{{"name", []string{"a'b\\c\n\""}}}},
		{"other quote inside", `name == "it's"`, filter{{"name", []string{"it's"}}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parseFilter(tc.text, "client_key", "name")
			require.NoError(t, err)
			assert.Equal(t, tc.want, got)
		})
	}
}

func TestFilterRefused(t *testing.T) {
	for _, text := range []string{
		`nonsense`, `name`, `name ==`, `name == a`, `name == 'a`, `name == 'it's'`, `name = 'a'`, `'a' == name`,
		`name in 'a'`, `name in ['a'`, `name in ['a' 'b']`, `name == 'a' ||`, `name == 'a' &&`, `name == 'a' name`,
		"name == 'a\nb'", `name == '\q'`, `name == '\`, `secret == 'a'`, "name == '\xff'", `name != 'a'`,
	} {
		t.Run(text, func(t *testing.T) {
			_, err := parseFilter(text, "name")
			assert.Equal(t, codes.InvalidArgument, status.Code(err))
		})
	}
}

func FuzzFilter(f *testing.F) {
	f.Add(`client_key == 'a\'b'`, "a'b")
	f.Add(`name in ["x",'y'] && name=="x"`, "x")
	f.Fuzz(func(t *testing.T, text, value string) {
		if f, err := parseFilter(text, "name"); err == nil {
			f.matches(map[string]string{"name": value})
		}
		if !utf8.ValidString(value) || strings.ContainsAny(value, "\a\b\f\n\r\t\v\\") || !printable(value) {
			return
		}
		got, err := parseFilter("name == "+strconv.Quote(value), "name")
		require.NoError(t, err)
		assert.True(t, got.matches(map[string]string{"name": value}))
	})
}

func printable(s string) bool {
	return strconv.Quote(s) == `"`+strings.ReplaceAll(s, `"`, `\"`)+`"`
}

func TestPage(t *testing.T) {
	items := []int{1, 2, 3, 4, 5}
	var got []int
	for token, pages := "", 0; ; pages++ {
		require.Less(t, pages, 3)
		part, next, err := page(items, 1000, token, 2, "filter")
		require.NoError(t, err)
		got = append(got, part...)
		if next == "" {
			break
		}
		_, _, err = page(items, 1000, next, 2, "another filter")
		assert.Equal(t, codes.InvalidArgument, status.Code(err))
		_, _, err = page(items, 999, next, 2, "filter")
		assert.Equal(t, codes.InvalidArgument, status.Code(err))
		token = next
	}
	assert.Equal(t, items, got)

	_, _, err := page(items, 1, "junk", 2)
	assert.Equal(t, codes.InvalidArgument, status.Code(err))
}
