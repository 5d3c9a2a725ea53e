package pbfs

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestPath(t *testing.T) {
	at := time.Date(2026, 5, 1, 12, 0, 0, 123_456_789, time.UTC)
	const stamp = "-1777636800123456"
	tests := []struct {
		name            string
		asset, run, key string
		want            string
	}{
		// as the reference
		{"plain", "engine-stand-3", "", "engine-stand-3-v1", "engine-stand-3/engine-stand-3-v1" + stamp},
		{"with a run", "engine", "hotfire 12", "key", "engine/hotfire_12/key" + stamp},
		{"all that is cleaned", `a:b/c\d*e?f"g<h>i|j.k`, "", "k", "a_b_c_d_e_f_g_h_i_j_k/k" + stamp},
		{"white space of all kinds", "a\tb\nc\u00a0d\u2003e\u3000f", "", "k", "a_b_c_d_e_f/k" + stamp},
		{"letters of all kinds", "Prüfstand-é-試験", "飛行", "schlüssel", "Prüfstand-é-試験/飛行/schlüssel" + stamp},
		{"dots and spaces in the key stay", "a", "", "v1.2 final:b", "a/v1.2 final:b" + stamp},
		{"dots in the asset do not", "..", "...", "k", "__/___/k" + stamp},
		{"other signs", "a+b@c#d", "x&y;z", "k=1,2~(3)", "a+b@c#d/x&y;z/k=1,2~(3)" + stamp},
		// not as the reference; HASH stands for 16 hexadecimal digits
		{"slash in the key", "a", "", "b/c", "a/b_c-HASH" + stamp},
		{"climbs out", "a", "", "../../etc/passwd", "a/_._.._etc_passwd-HASH" + stamp},
		{"absolute", "a", "", "/etc/passwd", "a/_etc_passwd-HASH" + stamp},
		{"dots", "a", "", "..", "a/_.-HASH" + stamp},
		{"dash", "a", "", "-rf", "a/_rf-HASH" + stamp},
		{"quotes", "a", "", "it's \"one\"`", "a/it_s _one__-HASH" + stamp},
		{"line feed in the key", "a", "", "k\n", "a/k_-HASH" + stamp},
		{"NUL", "a\x00b", "r\x00", "k\x00", "a_b-HASH/r_-HASH/k_-HASH" + stamp},
		{"not UTF-8", "a\xff\xfeb", "", "k", "a_b-HASH/k" + stamp},
		{"replacement character is UTF-8", "a\ufffdb", "", "k\ufffd", "a\ufffdb/k\ufffd" + stamp},
		{"empty", "", "", "", "_/_" + stamp},
		{"too long", strings.Repeat("é", 121), "", "k", strings.Repeat("é", 111) + "-HASH/k" + stamp},
		{"longest that fits", strings.Repeat("é", 120), "", "k", strings.Repeat("é", 120) + "/k" + stamp},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rel, err := filepath.Rel("/root/dir", Path("/root/dir", tt.asset, tt.run, tt.key, at))
			require.NoError(t, err)
			want := strings.ReplaceAll(regexp.QuoteMeta(tt.want), "HASH", "[0-9a-f]{16}")
			assert.Regexp(t, "^"+want+"$", rel)
		})
	}
}

func TestPathDifferentNamesStayDifferent(t *testing.T) {
	at := time.UnixMicro(1)
	seen := map[string]string{}
	long := strings.Repeat("x", 10<<10)
	for _, key := range []string{"a/b", "a\\b", "a'b", "a\"b", "a_b", "a\x00b", "a\xffb", "a\xfeb", ".a", "-a", "_a", long, long + "y", strings.Repeat("é", 5000)} {
		p := Path("", "asset", "", key, at)
		assert.Empty(t, seen[p], "%q", key)
		seen[p] = key
		assert.NotEqual(t, Path("", key+".", "", "k", at), Path("", key+"y", "", "k", at))
	}
}

// Whatever the names: inside root, exactly as deep as it should be, components
// of bounded length, valid for any file system.
func TestPathIsSafe(t *testing.T) {
	hostile := rapid.OneOf(
		rapid.String(),
		rapid.StringOfN(rapid.RuneFrom([]rune("./\\ \x00'\"-_é\u2028a")), 0, 30, -1),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 600), func(b []byte) string { return string(b) }),
		rapid.Map(rapid.IntRange(200, 10<<10), func(n int) string { return strings.Repeat("é/", n) }),
	)
	rapid.Check(t, func(t *rapid.T) {
		asset, run, key := hostile.Draw(t, "asset"), hostile.Draw(t, "run"), hostile.Draw(t, "key")
		at := time.UnixMicro(rapid.Int64().Draw(t, "time"))
		rel, err := filepath.Rel("/root/dir", Path("/root/dir", asset, run, key, at))
		require.NoError(t, err)
		parts := strings.Split(rel, "/")
		want := 3
		if run == "" {
			want = 2
		}
		require.Len(t, parts, want)
		for _, p := range parts {
			require.NotContains(t, []string{"", ".", ".."}, p)
			require.LessOrEqual(t, len(p), maxComponent)
			require.True(t, utf8.ValidString(p))
			require.NotContains(t, p, "\x00")
		}
		require.NotContains(t, []byte(".-"), parts[want-1][0])
	})
}
