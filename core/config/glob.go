package config

// Takes reports whether a transport gets a flow: without patterns every flow,
// else those that one of the patterns matches. * stands for any text, slashes
// included, ? for one character.
func (t *Transport) Takes(flow string) bool {
	for _, pattern := range t.Flows {
		if matches([]rune(pattern), []rune(flow)) {
			return true
		}
	}
	return len(t.Flows) == 0
}

// matches compares a name with a pattern. At a mismatch it goes back to the last
// star only, so its time is bounded by the product of both lengths.
func matches(pattern, name []rune) bool {
	p, star, mark := 0, -1, 0
	for n := 0; n < len(name); {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p, n = p+1, n+1
		case star >= 0:
			mark++
			p, n = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
