package plugin

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEnvironment(t *testing.T) {
	host := []string{
		"PATH=/bin", "LC_ALL=C", "LC_TIME=de_DE", "LCX=no", "PATHX=no", "https_proxy=http://p:1", "TZ=",
		"SIFT_API_KEY=secret", "PLUGIN_CLIENT_CERT=x", "GOMAXPROCS=64", "LD_PRELOAD=/evil.so", "odd",
	}
	env, err := environment(host, Budget{Procs: 2, Memory: 1 << 30}, map[string]string{"TZ": "UTC", "MODE": "a=b"})
	require.NoError(t, err)
	assert.Equal(t, []string{
		"GOMAXPROCS=2", "GOMEMLIMIT=1073741824", "LC_ALL=C", "LC_TIME=de_DE", "MODE=a=b", "PATH=/bin", "TZ=UTC", "https_proxy=http://p:1",
	}, env)

	env, err = environment(nil, Budget{}, nil)
	require.NoError(t, err)
	assert.Empty(t, env)
}

func TestEnvironmentRefuses(t *testing.T) {
	for name, value := range map[string]string{"": "x", "A=B": "x", "A\x00": "x", "A": "\x00", "PLUGIN_MIN_PORT": "1", "PIPELINED_PLUGIN": "x"} {
		_, err := environment(nil, Budget{}, map[string]string{name: value})
		assert.ErrorContains(t, err, "environment variable", "%q=%q", name, value)
	}
}

func TestBudget(t *testing.T) {
	for _, tc := range []struct {
		budget Budget
		n      int
		want   Budget
	}{
		{Budget{Procs: 2, Memory: 1 << 30}, 4, Budget{Procs: 1, Memory: 256 << 20}},
		{Budget{Procs: 64, Memory: 1 << 30}, 5, Budget{Procs: 13, Memory: (1 << 30) / 5}},
		{Budget{Procs: 2, Memory: 1 << 20}, 4, Budget{Procs: 1, Memory: minMemory}},
		{Budget{}, 4, Budget{}},
		{Budget{Procs: 3, Memory: 1 << 30}, 0, Budget{Procs: 3, Memory: 1 << 30}},
	} {
		assert.Equal(t, tc.want, tc.budget.Split(tc.n), "%+v over %d", tc.budget, tc.n)
	}
}
