package plugin

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// inherited are the variables of the host that its plugins get, too; a star at
// the end stands for any rest. Everything else stays out, above all secrets.
var inherited = [...]string{
	"PATH", "HOME", "TMPDIR",
	"TZ", "LANG", "LANGUAGE", "LC_*",
	"SSL_CERT_FILE", "SSL_CERT_DIR",
	"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
	"http_proxy", "https_proxy", "all_proxy", "no_proxy",
}

// reserved begins the names of variables that belong to the handshake.
var reserved = [...]string{"PLUGIN_", "PIPELINED_"}

// InheritedVariables returns the names of the host's variables that plugins get.
// A star at the end stands for any rest.
func InheritedVariables() []string { return slices.Clone(inherited[:]) }

func isInherited(name string) bool {
	return slices.ContainsFunc(inherited[:], func(pattern string) bool {
		prefix, star := strings.CutSuffix(pattern, "*")
		return name == pattern || star && strings.HasPrefix(name, prefix)
	})
}

// environment returns a plugin's variables: those of the host that are on the
// list, then its share of the budget, then those that its block declares.
func environment(host []string, share Budget, declared map[string]string) ([]string, error) {
	env := map[string]string{}
	for _, variable := range host {
		if name, value, ok := strings.Cut(variable, "="); ok && isInherited(name) {
			env[name] = value
		}
	}
	maps.Copy(env, share.variables())
	for name, value := range declared {
		if err := checkVariable(name, value); err != nil {
			return nil, err
		}
		env[name] = value
	}
	out := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, name+"="+env[name])
	}
	return out, nil
}

func checkVariable(name, value string) error {
	if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") {
		return fmt.Errorf("environment variable %q: a name must not be empty or contain '=', and neither name nor value a zero byte", name)
	}
	for _, prefix := range reserved {
		if strings.HasPrefix(name, prefix) {
			return fmt.Errorf("environment variable %s: names that begin with %s belong to the host", name, prefix)
		}
	}
	return nil
}
