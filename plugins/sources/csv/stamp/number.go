package stamp

import (
	"math"
	"math/bits"
)

// unit is a number of nanoseconds: factor × 10^power.
type unit struct {
	factor uint64
	power  int
}

// maxDigits is how many digits of a number count; all after them are below what
// a stamp can hold.
const maxDigits = 19

// decimal is a number: ± mantissa × 10^power.
type decimal struct {
	negative bool
	mantissa uint64
	power    int
}

// parseDecimal reads a decimal number with optional fraction and exponent.
func parseDecimal(text []byte) (d decimal, ok bool) {
	i := 0
	if i < len(text) && (text[i] == '-' || text[i] == '+') {
		d.negative = text[i] == '-'
		i++
	}
	digits, seen, fraction := 0, false, false
	for ; i < len(text); i++ {
		c := text[i]
		if c == '.' && !fraction {
			fraction = true
			continue
		}
		if c < '0' || c > '9' {
			break
		}
		seen = true
		if digits == maxDigits {
			if !fraction {
				d.power++
			}
			continue
		}
		d.mantissa = 10*d.mantissa + uint64(c-'0')
		if d.mantissa > 0 {
			digits++
		}
		if fraction {
			d.power--
		}
	}
	if !seen {
		return decimal{}, false
	}
	if i == len(text) {
		return d, true
	}
	power, ok := parseExponent(text[i:])
	d.power += power
	return d, ok
}

// parseExponent reads "e-7". Exponents beyond a million count as a million.
func parseExponent(text []byte) (power int, ok bool) {
	if len(text) < 2 || text[0]|0x20 != 'e' {
		return 0, false
	}
	sign := 1
	text = text[1:]
	if text[0] == '-' || text[0] == '+' {
		if text[0] == '-' {
			sign = -1
		}
		text = text[1:]
	}
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		power = min(10*power+int(c-'0'), 1_000_000)
	}
	return sign * power, len(text) > 0
}

// nanoseconds returns the number in the unit as nanoseconds.
func (d decimal) nanoseconds(u unit) (ns int64, ok bool) {
	hi, lo := bits.Mul64(d.mantissa, u.factor)
	power := d.power + u.power
	for ; power > 0 && (hi|lo) != 0; power-- {
		if hi != 0 {
			return 0, false
		}
		hi, lo = bits.Mul64(lo, 10)
	}
	digit := uint64(0) // the last one cut off
	for ; power < 0 && (hi|lo|digit) != 0; power++ {
		var rest uint64
		hi, rest = hi/10, hi%10
		lo, digit = bits.Div64(rest, lo, 10)
	}
	if digit >= 5 {
		var carry uint64
		lo, carry = bits.Add64(lo, 1, 0)
		hi += carry
	}
	switch {
	case hi != 0:
		return 0, false
	case d.negative && lo <= 1<<63:
		return -int64(lo), true // also for the least one, which is its own negative
	case d.negative || lo > math.MaxInt64:
		return 0, false
	}
	return int64(lo), true
}
